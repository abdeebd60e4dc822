//! Scripts for the cookies and headers of a container, in Firefox's own context: what WebDriver BiDi has for them knows no
//! frames below another site (partitions), and no requests of workers (headers).

/// Puts cookies into the jar. Gives why one was not taken, `null` when all were. Arguments: the container's number, the
/// cookies as `stored` makes them.
pub const SET_COOKIES: (&str, &str) = (
    "the cookies",
    r"const [userContextId, cookies] = arguments;
for (const cookie of cookies) {
  const { host, path, name, value, expires_ms, partition_key: partitionKey } = cookie;
  const attributes = partitionKey ? { userContextId, partitionKey } : { userContextId };
  const session = expires_ms === null;
  if (!session && expires_ms <= Date.now()) {
    Services.cookies.remove(host, name, path, attributes);
    continue;
  }
  const expiry = session ? Number.MAX_SAFE_INTEGER : Services.cookies.maybeCapExpiry(expires_ms);
  const scheme = cookie.secure ? Ci.nsICookie.SCHEME_HTTPS : Ci.nsICookie.SCHEME_HTTP;
  const told = Services.cookies.add(host, path, name, value, cookie.secure, cookie.http_only, session, expiry, attributes,
    cookie.same_site, scheme, Boolean(partitionKey));
  if (told.result !== Ci.nsICookieValidation.eOK) return `${name} of ${host}: ${told.errorString || told.result}`;
}
return null;",
);

/// From now on every request of a container has these headers, instead of those of an earlier call. Arguments: its number,
/// pairs of name and value.
pub const HEADERS: (&str, &str) = (
    "the headers",
    r"const [userContextId, headers] = arguments;
// Of what came before the observer of before is told: it ends.
const over = `sonde-headers-${userContextId}`;
Services.obs.notifyObservers(null, over);
if (headers.length === 0) return null;
const opening = 'http-on-opening-request';
const setting = {
  observe(subject, topic) {
    if (topic === over) {
      Services.obs.removeObserver(setting, over);
      Services.obs.removeObserver(setting, opening);
      return;
    }
    const channel = subject.QueryInterface(Ci.nsIHttpChannel);
    if (channel.loadInfo?.originAttributes.userContextId !== userContextId) return;
    for (const [name, value] of headers) channel.setRequestHeader(name, value, false);
  },
};
Services.obs.addObserver(setting, over);
Services.obs.addObserver(setting, opening);
return null;",
);
