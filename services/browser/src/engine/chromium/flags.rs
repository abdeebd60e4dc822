//! The command line of Chromium: each flag with its reason.

use std::path::Path;

use super::launch::{ChromiumOptions, LaunchError};

/// Flags that every browser gets, and why.
pub const FLAGS: &[(&str, &str)] = &[
    ("--remote-debugging-pipe", "control on descriptors 3 and 4: no port that a page or a user can reach"),
    ("--enable-unsafe-extension-debugging", "allows Extensions.loadUnpacked, over the pipe only"),
    ("--no-startup-window", "no page before the first visit's; saves a renderer"),
    ("--no-first-run", "no welcome page and its requests"),
    ("--no-default-browser-check", "no question at the start"),
    ("--disable-background-networking", "no requests that the page did not cause"),
    ("--disable-component-update", "no downloads, and the same components throughout a crawl"),
    ("--disable-default-apps", "no downloads at the first run"),
    ("--disable-sync", "no requests to an account server"),
    ("--disable-domain-reliability", "no error reports to the operator of a visited site's browser"),
    ("--disable-client-side-phishing-detection", "no model downloads and no look-ups of visited pages"),
    ("--disable-search-engine-choice-screen", "no dialog over the first page"),
    ("--disable-field-trial-config", "the same features in every run of a build"),
    ("--metrics-recording-only", "nothing is uploaded"),
    ("--password-store=basic", "no question to the desktop's key ring, which may wait for ever"),
    ("--disable-hang-monitor", "hangs are ours to judge; no dialog"),
    ("--disable-prompt-on-repost", "no dialog on reload"),
    ("--disable-background-timer-throttling", "a page behaves the same whether or not it is in front"),
    ("--disable-backgrounding-occluded-windows", "as above"),
    ("--disable-renderer-backgrounding", "as above"),
    ("--mute-audio", "many browsers on one machine"),
];

/// Features switched off, and why.
pub const DISABLED_FEATURES: &[(&str, &str)] = &[
    ("WebUIOmniboxPopup", "the address bar's own renderers cost 80 ms and 50 MB for each window"),
    ("WebUIOmniboxAimPopup", "as above"),
    ("WebUIOmniboxFullPopup", "as above"),
    ("OmniboxPopupWebUI", "as above"),
    ("AimEnabled", "as above"),
    ("RenderDocument", "with a new frame host per document DevTools misses the requests of unloading pages"),
    ("BackForwardCache", "as above: a page that may be kept has a frame host of its own"),
    ("Translate", "no language detection in the page and no offer over it"),
    ("MediaRouter", "no search for devices in the local network"),
    ("DialMediaRouteProvider", "as above"),
    ("OptimizationHints", "no requests about visited hosts"),
    ("OptimizationGuideModelDownloading", "no downloads"),
    ("AutofillServerCommunication", "forms are not sent to a server for classification"),
    ("CertificateTransparencyComponentUpdater", "no downloads"),
];

/// Blink features switched off, and why.
pub const DISABLED_BLINK_FEATURES: &[(&str, &str)] =
    &[("AutomationControlled", "navigator.webdriver is false, as in a user's browser")];

const DISABLE_FEATURES: &str = "--disable-features=";
const ENABLE_FEATURES: &str = "--enable-features=";
const DISABLE_BLINK_FEATURES: &str = "--disable-blink-features=";

/// Docker's default of 64 MB makes renderers crash on heavy pages.
const ENOUGH_SHARED_MEMORY: u64 = 512 * 1024 * 1024;

fn names(list: &[(&str, &str)]) -> Vec<String> {
    list.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// All arguments. Of a repeated feature list Chromium heeds only the last, so there is one of each kind.
pub(super) fn arguments(options: &ChromiumOptions, profile: &Path) -> Result<Vec<String>, LaunchError> {
    let mut args = names(FLAGS);
    let mut disabled = names(DISABLED_FEATURES);
    let mut enabled = Vec::new();
    let mut blink = names(DISABLED_BLINK_FEATURES);
    let mut extra = Vec::new();
    for arg in &options.extra_args {
        const OURS: [&str; 2] = ["--user-data-dir", "--remote-debugging-pipe"];
        let lists = [
            (DISABLE_FEATURES, &mut disabled),
            (ENABLE_FEATURES, &mut enabled),
            (DISABLE_BLINK_FEATURES, &mut blink),
        ];
        if OURS.iter().any(|ours| arg.starts_with(ours)) {
            return Err(LaunchError::Argument(arg.clone()));
        }
        match lists.into_iter().find_map(|(prefix, list)| Some((arg.strip_prefix(prefix)?, list))) {
            Some((more, list)) => list.extend(more.split(',').map(str::to_owned)),
            None => extra.push(arg.clone()),
        }
    }
    // What is enabled explicitly is not to be disabled by our defaults.
    disabled.retain(|name| !enabled.contains(name));
    for (prefix, list) in
        [(DISABLE_FEATURES, disabled), (ENABLE_FEATURES, enabled), (DISABLE_BLINK_FEATURES, blink)]
    {
        if !list.is_empty() {
            args.push(format!("{prefix}{}", list.join(",")));
        }
    }
    args.push(format!("--user-data-dir={}", profile.display()));
    args.push(format!("--crash-dumps-dir={}", profile.join("crashes").display()));
    let first = options.languages.split(',').next().unwrap_or_default();
    args.push(format!("--lang={first}"));
    args.push(format!("--accept-lang={}", options.languages));
    let (width, height) = options.window_size;
    args.push(format!("--window-size={width},{height}"));
    if options.headless {
        // The new mode is the real browser without a window; without a GPU it need not look for one.
        args.extend(["--headless=new", "--disable-gpu"].map(str::to_owned));
    }
    if options.no_sandbox {
        args.push("--no-sandbox".into());
    }
    if let Some(proxy) = &options.proxy {
        args.push(format!("--proxy-server={}", proxy.server));
        args.extend(proxy.bypass.as_ref().map(|list| format!("--proxy-bypass-list={list}")));
    }
    if !shared_memory_suffices() {
        args.push("--disable-dev-shm-usage".into());
    }
    args.extend(extra);
    Ok(args)
}

fn shared_memory_suffices() -> bool {
    rustix::fs::statvfs("/dev/shm").is_ok_and(|s| s.f_blocks * s.f_frsize >= ENOUGH_SHARED_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(args: &'a [String], prefix: &str) -> Vec<&'a str> {
        let mut found = args.iter().filter_map(|a| a.strip_prefix(prefix));
        let list = found.next().unwrap().split(',').collect();
        assert_eq!(found.next(), None, "only one {prefix}");
        list
    }

    #[test]
    fn feature_lists_are_merged_into_one() {
        let extra_args = ["--disable-features=A,B", "--enable-features=Translate", "--foo"];
        let options =
            ChromiumOptions { extra_args: extra_args.map(str::to_owned).into(), ..Default::default() };
        let args = arguments(&options, Path::new("/p")).unwrap();
        let disabled = list(&args, DISABLE_FEATURES);
        assert!(disabled.contains(&"WebUIOmniboxPopup") && disabled.ends_with(&["A", "B"]));
        assert!(!disabled.contains(&"Translate"));
        assert_eq!(list(&args, ENABLE_FEATURES), ["Translate"]);
        assert_eq!(args.last().unwrap(), "--foo");
        assert!(!args.iter().any(|a| a == "--no-sandbox" || a.starts_with("--enable-automation")));
    }

    #[test]
    fn arguments_that_are_ours_are_refused() {
        let options = ChromiumOptions { extra_args: vec!["--user-data-dir=/x".into()], ..Default::default() };
        assert!(matches!(arguments(&options, Path::new("/p")), Err(LaunchError::Argument(_))));
    }
}
