// Origins and sites of URLs, by the rules that the browser-service has for Chromium (engine/chromium/http/site.rs): the
// tests of both read tests/third-party.json.
import { getDomain } from "tldts";

declare const TLDTS_VERSION: string;

/** Where the public suffix list is from. */
export const PUBLIC_SUFFIX_LIST = `tldts ${TLDTS_VERSION}`;

/** Sites kept; then forgotten together. */
const CACHED = 4096;
const cache = new Map<string, string | undefined>();

/** The URL as it is stored: of data: URLs only the type is kept. */
export const storedUrl = (url: string): string => {
  if (url.slice(0, 5).toLowerCase() !== "data:") return url;
  return `data:${url.slice(5).split(/[,;]/, 1)[0] ?? ""},<data-stripped>`;
};

const parsed = (url: string): URL | undefined => (URL.canParse(url) ? new URL(url) : undefined);

/** `scheme://host[:port]`; undefined for opaque origins. Of blob: URLs that of their maker. */
export const originOf = (url: string): string | undefined => {
  const origin = parsed(url)?.origin;
  return origin === "null" ? undefined : origin;
};

const ADDRESS = /^(?:\[.*\]|\d+\.\d+\.\d+\.\d+)$/;

const domainOf = (host: string): string => {
  const name = host.replace(/\.+$/, "");
  const options = { allowPrivateDomains: true, extractHostname: false, validateHostname: false, detectIp: false };
  return getDomain(name, options) ?? name;
};

/** The registrable domain, or the whole host where there is none (IP addresses, localhost). */
export const siteOf = (url: string): string | undefined => {
  const at = parsed(url);
  if (at === undefined) return undefined;
  if (at.protocol === "blob:") return siteOf(at.pathname);
  const host = at.hostname;
  if (host === "") return undefined;
  if (ADDRESS.test(host)) return host;
  if (cache.has(host)) return cache.get(host);
  if (cache.size >= CACHED) cache.clear();
  const site = domainOf(host);
  cache.set(host, site);
  return site;
};

/** Whether the two are of different sites; undefined when either has none. */
export const thirdParty = (url: string, of: string): boolean | undefined => {
  const [one, other] = [siteOf(url), siteOf(of)];
  return one === undefined || other === undefined ? undefined : one !== other;
};

/** `scheme://registrable domain`, as partition keys have it. */
export const schemefulSite = (url: string): string | undefined => {
  const site = siteOf(url);
  return site === undefined ? undefined : `${parsed(url)?.protocol ?? ""}//${site}`;
};
