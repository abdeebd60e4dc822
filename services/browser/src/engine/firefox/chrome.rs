//! Scripts that run in Firefox's own context, where WebDriver BiDi has no command: function bodies with their names.

/// Contexts by the ids that BiDi gives them; the beginning of some of the scripts.
macro_rules! with_ids {
    ($body:literal) => {
        concat!(
            r"const load = (name) => ChromeUtils.importESModule(`chrome://remote/content/shared/${name}.sys.mjs`)[name];
const userContext = (id) => load('UserContextManager').getInternalIdById(id);
const browsingContext = (id) => load('NavigableManager').getBrowsingContextById(id);
",
            $body
        )
    };
}

/// Once per browser: dialogs that the session does not know (HTTP authentication, those with a box to tick) are answered
/// by no, as it answers the others (M25); certificates are trusted; gives facts for provenance. Argument: certificates in
/// base64.
pub const START: (&str, &str) = (
    "the browser's set-up",
    r"Services.obs.addObserver({
  observe(dialog) {
    const args = dialog.Dialog?.args;
    if (!args || args.inPermitUnload || ['alert', 'confirm', 'prompt'].includes(args.promptType)) return;
    const { button0, button1 } = dialog.Dialog.ui;
    (button1 && !button1.hidden ? button1 : button0).click();
  },
}, 'common-dialog-loaded');
const certificates = Cc['@mozilla.org/security/x509certdb;1'].getService(Ci.nsIX509CertDB);
for (const certificate of arguments[0]) certificates.addCertFromBase64(certificate, 'C,,');
const sandbox = Cc['@mozilla.org/sandbox/sandbox-settings;1']?.getService(Ci.mozISandboxSettings);
return {
  sandbox_level: sandbox?.effectiveContentSandboxLevel ?? null,
  build_id: Services.appinfo.appBuildID,
  platform_version: Services.appinfo.platformVersion,
  fission: Services.appinfo.fissionAutostart,
  locale: Services.locale.appLocaleAsBCP47,
};",
);

/// Before each visit: forgets HSTS, which containers share. Gives the number of a container, as in
/// `firefox-container-N`. Argument: user context.
pub const PREPARE: (&str, &str) = (
    "a visit's set-up",
    with_ids!(
        r"Cc['@mozilla.org/ssservice;1'].getService(Ci.nsISiteSecurityService).clearAll();
return userContext(arguments[0]);"
    ),
);

/// The cookies of a container, of all partitions. Argument: its number.
pub const COOKIES: (&str, &str) = (
    "the cookies",
    r"const pattern = JSON.stringify({ userContextId: arguments[0] });
return Services.cookies.getCookiesWithOriginAttributes(pattern).map((cookie) => ({
  name: cookie.name, value: cookie.value, host: cookie.host, path: cookie.path,
  expires_ms: cookie.isSession ? null : cookie.expiry,
  secure: cookie.isSecure, http_only: cookie.isHttpOnly, same_site: cookie.sameSite,
  partition_key: cookie.originAttributes.partitionKey || null,
}));",
);

/// The next navigation of a context has a referrer, whole: BiDi's command has none. Arguments: context, referrer.
pub const REFER: (&str, &str) = (
    "the referrer",
    with_ids!(
        r"const [id, referrer] = arguments;
const referrerInfo = Cc['@mozilla.org/referrer-info;1'].createInstance(Ci.nsIReferrerInfo);
referrerInfo.init(Ci.nsIReferrerInfo.UNSAFE_URL, true, Services.io.newURI(referrer));
const context = browsingContext(id);
const native = context.loadURI;
context.loadURI = (uri, options) => {
  delete context.loadURI;
  native.call(context, uri, { ...options, referrerInfo });
};
return null;"
    ),
);

/// Whether a download into a directory has failed: BiDi tells of those that are complete or cancelled only. Argument: its
/// path.
pub const DOWNLOAD_FAILED: (&str, &str) = (
    "the state of downloads",
    r"const { Downloads } = ChromeUtils.importESModule('resource://gre/modules/Downloads.sys.mjs');
const [dir] = arguments;
return Downloads.getList(Downloads.ALL).then((list) => list.getAll()).then((all) =>
  all.some((download) => download.target.path.startsWith(dir) && download.stopped && download.error !== null));",
);

/// Cancels the downloads into a directory. Argument: its path.
pub const CANCEL_DOWNLOADS: (&str, &str) = (
    "the end of downloads",
    r"const { Downloads } = ChromeUtils.importESModule('resource://gre/modules/Downloads.sys.mjs');
const [dir] = arguments;
return Downloads.getList(Downloads.ALL).then((list) => list.getAll()).then((all) => {
  const into = all.filter((download) => download.target.path.startsWith(dir));
  return Promise.all(into.map((download) => download.finalize(true))).then(() => into.length);
});",
);

/// Stops loading. Argument: context.
pub const STOP: (&str, &str) = (
    "the stop",
    with_ids!(
        r"browsingContext(arguments[0])?.stop(Ci.nsIWebNavigation.STOP_ALL);
return null;"
    ),
);

/// Stops loading in all tabs of a container. Argument: its number.
pub const STOP_ALL: (&str, &str) = (
    "the end of loading",
    r"let stopped = 0;
for (const window of Services.wm.getEnumerator('navigator:browser')) {
  for (const tab of window.gBrowser?.tabs ?? []) {
    if (tab.userContextId !== arguments[0]) continue;
    tab.linkedBrowser.browsingContext.stop(Ci.nsIWebNavigation.STOP_ALL);
    stopped += 1;
  }
}
return stopped;",
);

/// All cookies, for [`RESTORE`].
pub const SAVE: (&str, &str) = (
    "the profile's cookies",
    r"return Services.cookies.cookies.map((cookie) => ({
  host: cookie.host, path: cookie.path, name: cookie.name, value: cookie.value, secure: cookie.isSecure,
  httpOnly: cookie.isHttpOnly, session: cookie.isSession, expiry: cookie.expiry, sameSite: cookie.sameSite,
  scheme: cookie.schemeMap, partitioned: cookie.isPartitioned, attributes: cookie.originAttributes,
}));",
);

/// Sets cookies as [`SAVE`] gave them. Arguments: the cookies; whether those that are there go first.
pub const RESTORE: (&str, &str) = (
    "the return of cookies",
    r"const [cookies, instead] = arguments;
if (instead) Services.cookies.removeAll();
for (const c of cookies) {
  Services.cookies.add(c.host, c.path, c.name, c.value, c.secure, c.httpOnly, c.session,
    c.session ? Number.MAX_SAFE_INTEGER : c.expiry, c.attributes, c.sameSite, c.scheme, c.partitioned);
}
return cookies.length;",
);

/// Quits. It answers before.
pub const QUIT: (&str, &str) = (
    "the end",
    r"Services.tm.dispatchToMainThread(() => Services.startup.quit(Ci.nsIAppStartup.eForceQuit));
return null;",
);
