//! The preferences of every Firefox: each with its reason.
//!
//! They are the only ones: the list that Firefox's remote protocol would apply by itself is switched off, because it
//! has test modes that pages can see.

use serde_json::{Map, Value, json};
use sonde_proto::visit::v1::ThirdPartyCookies;

/// A value that can stand in a constant.
#[derive(Debug, Clone, Copy)]
enum Set {
    Flag(bool),
    Number(i64),
    Text(&'static str),
}

use Set::{Flag, Number, Text};

const OFF: Set = Flag(false);
const ON: Set = Flag(true);
const NONE: Set = Text("");

/// Preference, value, and why.
const PREFS: &[(&str, Set, &str)] = &[
    ("remote.prefs.recommended", OFF, "see above: the prefs of this list, and no others"),
    ("marionette.port", Number(0), "a free port, told by a file in the profile"),
    (
        "dom.max_ext_content_script_run_time",
        Number(0),
        "a slow machine must not end the extension's hooks half-way",
    ),
    (
        "dom.file.createInChild",
        ON,
        "files that an upload chooses are made where the page is; pages do not see it",
    ),
    // What Firefox asks the network for by itself.
    ("app.normandy.enabled", OFF, "no studies, and the same features throughout a crawl"),
    ("app.shield.optoutstudies.enabled", OFF, "as above"),
    ("nimbus.rollouts.enabled", OFF, "as above"),
    ("messaging-system.rsexperimentloader.enabled", OFF, "as above"),
    ("app.update.auto", OFF, "the same build throughout a crawl"),
    ("app.update.disabledForTesting", ON, "as above"),
    (
        "services.settings.server",
        Text("data:,#remote-settings-dummy/v1"),
        "no remote settings; needs MOZ_REMOTE_SETTINGS_DEVTOOLS=1",
    ),
    ("datareporting.policy.dataSubmissionEnabled", OFF, "no telemetry"),
    ("datareporting.policy.dataSubmissionPolicyBypassNotification", ON, "no page about it"),
    ("datareporting.healthreport.uploadEnabled", OFF, "as above"),
    ("datareporting.usage.uploadEnabled", OFF, "as above"),
    ("toolkit.telemetry.server", NONE, "as above"),
    ("toolkit.telemetry.unified", OFF, "as above"),
    ("toolkit.telemetry.archive.enabled", OFF, "as above"),
    ("toolkit.coverage.endpoint.base", NONE, "as above"),
    ("telemetry.fog.test.localhost_port", Number(-1), "as above"),
    ("browser.newtabpage.activity-stream.telemetry", OFF, "as above"),
    ("browser.crashReports.unsubmittedCheck.enabled", OFF, "crashes are ours to report"),
    ("browser.tabs.crashReporting.sendReport", OFF, "as above"),
    ("browser.discovery.enabled", OFF, "no add-on recommendations"),
    ("browser.region.network.url", NONE, "no look-up of the country"),
    ("browser.region.update.enabled", OFF, "as above"),
    ("browser.search.update", OFF, "no search engine updates"),
    ("browser.topsites.contile.enabled", OFF, "no sponsored tiles"),
    ("browser.uitour.enabled", OFF, "no tours"),
    ("browser.translations.enable", OFF, "no models, and no offer over the page"),
    ("browser.ml.enable", OFF, "no models"),
    ("identity.fxaccounts.enabled", OFF, "no account server"),
    ("network.captive-portal-service.enabled", OFF, "no probe requests"),
    ("network.connectivity-service.enabled", OFF, "as above"),
    ("network.sntp.pools", NONE, "no time servers"),
    ("dom.push.connection.enabled", OFF, "no connection to a push server"),
    ("geo.provider.network.url", NONE, "no requests to a location service"),
    ("media.gmp-manager.updateEnabled", OFF, "no plugin downloads"),
    ("extensions.update.enabled", OFF, "no add-on updates"),
    ("extensions.systemAddon.update.enabled", OFF, "as above"),
    ("extensions.getAddons.cache.enabled", OFF, "no add-on metadata"),
    ("extensions.blocklist.enabled", OFF, "no block list of add-ons"),
    ("security.remote_settings.intermediates.enabled", OFF, "no certificate preloads"),
    ("security.remote_settings.crlite_filters.enabled", OFF, "as above"),
    (
        "security.OCSP.enabled",
        Number(0),
        "no look-ups of certificates at third parties: they would be in the traffic",
    ),
    ("security.certerrors.mitm.priming.enabled", OFF, "no requests about bad certificates"),
    // Lists of URLs: what they block would depend on when they were loaded.
    ("browser.safebrowsing.malware.enabled", OFF, "no look-ups of visited URLs at a third party"),
    ("browser.safebrowsing.phishing.enabled", OFF, "as above"),
    ("browser.safebrowsing.blockedURIs.enabled", OFF, "as above"),
    ("browser.safebrowsing.downloads.enabled", OFF, "as above"),
    ("browser.safebrowsing.provider.mozilla.updateURL", NONE, "no list downloads"),
    ("browser.safebrowsing.provider.google4.updateURL", NONE, "as above"),
    (
        "browser.contentblocking.category",
        Text("custom"),
        "otherwise it resets the cookie policy at the start",
    ),
    ("privacy.trackingprotection.enabled", OFF, "what a page asks for is measured, not blocked"),
    ("privacy.trackingprotection.cryptomining.enabled", OFF, "as above"),
    ("privacy.trackingprotection.fingerprinting.enabled", OFF, "as above"),
    ("privacy.trackingprotection.socialtracking.enabled", OFF, "as above"),
    ("privacy.trackingprotection.emailtracking.enabled", OFF, "as above"),
    ("privacy.purge_trackers.enabled", OFF, "no deletion of cookies by list"),
    // Requests and connections that no page has caused.
    ("network.predictor.enabled", OFF, "no speculation: every request has a cause in the page"),
    ("network.dns.disablePrefetch", ON, "as above"),
    ("network.http.speculative-parallel-limit", Number(0), "as above"),
    ("browser.urlbar.speculativeConnect.enabled", OFF, "as above"),
    ("browser.places.speculativeConnect.enabled", OFF, "as above"),
    ("browser.urlbar.suggest.searches", OFF, "as above"),
    (
        "network.trr.mode",
        Number(5),
        "names are looked up by the system, and no rollout changes it during a crawl",
    ),
    ("network.manage-offline-status", OFF, "a machine with loopback only is not offline"),
    // Pages, dialogs and questions that a visit did not ask for.
    ("browser.startup.page", Number(0), "a blank first page"),
    ("browser.startup.homepage", Text("about:blank"), "as above"),
    ("browser.startup.homepage_override.mstone", Text("ignore"), "as above"),
    ("startup.homepage_welcome_url", Text("about:blank"), "as above"),
    ("browser.aboutwelcome.enabled", OFF, "as above"),
    ("browser.newtabpage.enabled", OFF, "as above"),
    ("browser.newtab.preload", OFF, "saves a content process"),
    ("termsofuse.bypassNotification", ON, "no dialog over the first page"),
    ("browser.shell.checkDefaultBrowser", OFF, "no question at the start"),
    ("browser.warnOnQuit", OFF, "no question at the end"),
    ("browser.tabs.warnOnClose", OFF, "as above"),
    ("browser.sessionstore.resume_from_crash", OFF, "a profile is for one life"),
    ("toolkit.startup.max_resumed_crashes", Number(-1), "no safe mode"),
    ("network.http.prompt-temp-redirect", OFF, "no question on a redirected POST"),
    ("network.protocol-handler.external-default", OFF, "no dialog and no program for schemes of others"),
    ("network.protocol-handler.warn-external-default", OFF, "as above"),
    ("dom.successive_dialog_time_limit", Number(0), "dialogs stay of the kinds that are answered"),
    ("print.enabled", OFF, "a page that prints opens no dialog"),
    ("signon.rememberSignons", OFF, "no offers over the page"),
    ("signon.autofillForms", OFF, "as above"),
    ("extensions.formautofill.addresses.enabled", OFF, "as above"),
    ("extensions.formautofill.creditCards.enabled", OFF, "as above"),
    ("browser.formfill.enable", OFF, "visits share nothing that was typed"),
    ("places.history.enabled", OFF, "visits share no history; it is not part of a container"),
    (
        "browser.sessionhistory.max_total_viewers",
        Number(0),
        "a page gone back to loads again: no event tells of one that is taken from memory",
    ),
    ("browser.tabs.unloadOnLowMemory", OFF, "a visit's page stays"),
    ("dom.ipc.reportProcessHangs", OFF, "hangs are ours to judge; no dialog"),
    ("dom.max_script_run_time", Number(0), "as above"),
    ("dom.max_chrome_script_run_time", Number(0), "as above"),
    ("dom.ipc.tabs.shutdownTimeoutSecs", Number(3), "a page in an endless loop keeps its process no longer"),
    ("media.volume_scale", Text("0.0"), "many browsers on one machine"),
    // Our extension.
    ("extensions.background.idle.timeout", Number(86_400_000), "its background lives as long as the browser"),
    ("extensions.enabledScopes", Number(1), "no add-ons of the system"),
    ("extensions.installDistroAddons", OFF, "as above"),
];

/// The add-on's id in the extension's manifest.
pub const ADDON_ID: &str = "extension@sonde.invalid";

/// What differs between browsers.
pub struct Choices<'a> {
    pub third_party_cookies: ThirdPartyCookies,
    /// As `en-US,en`.
    pub languages: &'a str,
    /// What the origin of the extension is to be.
    pub addon_uuid: &'a str,
}

/// All preferences.
pub fn all(choices: &Choices<'_>) -> Map<String, Value> {
    let value = |set: &Set| match *set {
        Flag(flag) => json!(flag),
        Number(number) => json!(number),
        Text(text) => json!(text),
    };
    let mut prefs: Map<String, Value> =
        PREFS.iter().map(|(name, set, _)| ((*name).to_owned(), value(set))).collect();
    // 0 takes all, 1 none of third parties, 3 those of sites that were visited as first parties.
    let cookies = match choices.third_party_cookies {
        ThirdPartyCookies::Always | ThirdPartyCookies::Unspecified => 0,
        ThirdPartyCookies::Never => 1,
        ThirdPartyCookies::FromVisited => 3,
    };
    prefs.insert("network.cookie.cookieBehavior".into(), json!(cookies));
    prefs.insert("intl.accept_languages".into(), json!(choices.languages));
    // Otherwise its origin, which the relay checks, would be random.
    let uuids = json!({ADDON_ID: choices.addon_uuid}).to_string();
    prefs.insert("extensions.webextensions.uuids".into(), json!(uuids));
    prefs
}

/// As a `user.js`.
pub fn user_js(prefs: &Map<String, Value>) -> String {
    prefs.iter().map(|(name, value)| format!("user_pref({}, {value});\n", json!(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M12, M30: the list is one, each preference stands in it once with its reason, and the policies are Firefox's.
    #[test]
    fn every_preference_is_set_once_and_has_a_reason() {
        let choices =
            |third_party_cookies| Choices { third_party_cookies, languages: "de,en", addon_uuid: "u" };
        let prefs = all(&choices(ThirdPartyCookies::Never));
        assert_eq!(prefs.len(), PREFS.len() + 3);
        assert!(PREFS.iter().all(|(_, _, why)| !why.is_empty()));
        let behavior = |policy| all(&choices(policy))["network.cookie.cookieBehavior"].clone();
        assert_eq!(behavior(ThirdPartyCookies::Always), 0);
        assert_eq!(behavior(ThirdPartyCookies::Never), 1);
        assert_eq!(behavior(ThirdPartyCookies::FromVisited), 3);
        let text = user_js(&prefs);
        assert!(text.contains("user_pref(\"intl.accept_languages\", \"de,en\");\n"), "{text}");
        assert!(text.contains(
            r#"user_pref("extensions.webextensions.uuids", "{\"extension@sonde.invalid\":\"u\"}");"#
        ));
    }
}
