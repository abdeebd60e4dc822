// Firefox's error names in the words that the rows of Chromium have, where they mean the same.

export interface Failure {
  /** As net::ERR_NAME_NOT_RESOLVED; the browser's own name where no word of Chromium's means the same. */
  readonly error: string;
  /** As the browser says, where it does. */
  readonly raw: string | undefined;
  /** The page or the browser gave it up itself. */
  readonly canceled: boolean;
  readonly blockedReason: string | undefined;
  readonly corsError: string | undefined;
}

const WORDS: Readonly<Record<string, string>> = {
  NS_ERROR_UNKNOWN_HOST: "ERR_NAME_NOT_RESOLVED",
  NS_ERROR_CONNECTION_REFUSED: "ERR_CONNECTION_REFUSED",
  NS_ERROR_NET_RESET: "ERR_CONNECTION_RESET",
  NS_ERROR_NET_EMPTY_RESPONSE: "ERR_EMPTY_RESPONSE",
  NS_ERROR_NET_INTERRUPT: "ERR_CONNECTION_CLOSED",
  NS_ERROR_NET_TIMEOUT: "ERR_TIMED_OUT",
  NS_ERROR_NET_TIMEOUT_EXTERNAL: "ERR_TIMED_OUT",
  NS_ERROR_NET_PARTIAL_TRANSFER: "ERR_CONTENT_LENGTH_MISMATCH",
  NS_ERROR_OFFLINE: "ERR_INTERNET_DISCONNECTED",
  NS_ERROR_PROXY_CONNECTION_REFUSED: "ERR_PROXY_CONNECTION_FAILED",
  NS_ERROR_UNKNOWN_PROXY_HOST: "ERR_PROXY_CONNECTION_FAILED",
  NS_ERROR_PROXY_AUTHENTICATION_FAILED: "ERR_PROXY_AUTH_UNSUPPORTED",
  NS_ERROR_REDIRECT_LOOP: "ERR_TOO_MANY_REDIRECTS",
  NS_ERROR_PORT_ACCESS_NOT_ALLOWED: "ERR_UNSAFE_PORT",
  NS_ERROR_MALFORMED_URI: "ERR_INVALID_URL",
  NS_ERROR_UNKNOWN_PROTOCOL: "ERR_UNKNOWN_URL_SCHEME",
  NS_ERROR_INVALID_CONTENT_ENCODING: "ERR_CONTENT_DECODING_FAILED",
  NS_ERROR_CORRUPTED_CONTENT: "ERR_INVALID_RESPONSE",
  NS_ERROR_PARSING_HTTP_STATUS_LINE: "ERR_INVALID_HTTP_RESPONSE",
  NS_ERROR_NET_HTTP2_SENT_GOAWAY: "ERR_HTTP2_PROTOCOL_ERROR",
  NS_ERROR_NET_HTTP3_PROTOCOL_ERROR: "ERR_QUIC_PROTOCOL_ERROR",
  NS_ERROR_FILE_NOT_FOUND: "ERR_FILE_NOT_FOUND",
  NS_ERROR_NET_ERROR_RESPONSE: "ERR_HTTP_RESPONSE_CODE_FAILURE",
  NS_BINDING_ABORTED: "ERR_ABORTED",
  NS_ERROR_ABORT: "ERR_ABORTED",
  NS_BINDING_CANCELLED_OLD_LOAD: "ERR_ABORTED",
  NS_BINDING_REDIRECTED: "ERR_ABORTED",
  NS_ERROR_DOM_ABORT_ERR: "ERR_ABORTED",
  NS_ERROR_PARSED_DATA_CACHED: "ERR_ABORTED",
};

/** Given up by the page, its end, or the browser's user. */
const CANCELED = new Set(Object.keys(WORDS).filter((name) => WORDS[name] === "ERR_ABORTED"));

/** Kept back by the browser, with Chromium's word for why. */
const BLOCKED: Readonly<Record<string, readonly [string, string]>> = {
  NS_ERROR_CSP_FRAME_ANCESTOR_VIOLATION: ["ERR_BLOCKED_BY_RESPONSE", "csp"],
  NS_ERROR_XFO_VIOLATION: ["ERR_BLOCKED_BY_RESPONSE", "other"],
  NS_ERROR_CONTENT_BLOCKED: ["ERR_BLOCKED_BY_CSP", "csp"],
  NS_ERROR_CONTENT_BLOCKED_SHOW_ALT: ["ERR_BLOCKED_BY_CLIENT", "other"],
  NS_ERROR_BLOCKED_BY_POLICY: ["ERR_BLOCKED_BY_CLIENT", "other"],
  NS_ERROR_TRACKING_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_MALWARE_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_PHISHING_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_UNWANTED_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_HARMFUL_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_FINGERPRINTING_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_CRYPTOMINING_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_SOCIALTRACKING_URI: ["ERR_BLOCKED_BY_CLIENT", "subresource-filter"],
  NS_ERROR_DOM_CORP_FAILED: ["ERR_BLOCKED_BY_RESPONSE", "corp-not-same-origin"],
  NS_ERROR_DOM_COOP_FAILED: ["ERR_BLOCKED_BY_RESPONSE", "coop"],
};

/** Firefox has one name for every refusal by CORS. */
const CORS = "NS_ERROR_DOM_BAD_URI";

/** The visit ended first. */
export const UNFINISHED: Failure = {
  error: "unfinished", raw: undefined, canceled: false, blockedReason: undefined, corsError: undefined,
};

/** A redirect to what no request can be made for. */
export const unknownScheme = (url: string): Failure => ({ ...UNFINISHED, error: "net::ERR_UNKNOWN_URL_SCHEME", raw: `redirected to ${url.split(":", 1)[0] ?? ""}:` });

/** Of certificates the browser tells a sentence in the user's language, which is English. */
const ofSentence = (text: string): string => {
  if (/expired|not yet valid|will not be valid/i.test(text)) return "ERR_CERT_DATE_INVALID";
  if (/not valid for|only valid for/i.test(text)) return "ERR_CERT_COMMON_NAME_INVALID";
  if (/revoked/i.test(text)) return "ERR_CERT_REVOKED";
  if (/issuer|self-signed|not trusted/i.test(text)) return "ERR_CERT_AUTHORITY_INVALID";
  return /certificate/i.test(text) ? "ERR_CERT_INVALID" : "ERR_SSL_PROTOCOL_ERROR";
};

export const failureOf = (raw: string): Failure => {
  const plain = { raw, canceled: false, blockedReason: undefined, corsError: undefined };
  const blocked = BLOCKED[raw];
  if (blocked !== undefined) return { ...plain, error: `net::${blocked[0]}`, blockedReason: blocked[1] };
  if (raw === CORS) return { ...plain, error: "net::ERR_FAILED", corsError: "unknown" };
  const word = WORDS[raw];
  if (word !== undefined) return { ...plain, error: `net::${word}`, canceled: CANCELED.has(raw) };
  if (/^[A-Z].* .*\.$/s.test(raw)) return { ...plain, error: `net::${ofSentence(raw)}` };
  if (/SEC_ERROR_|MOZILLA_PKIX_ERROR_|SSL_ERROR_BAD_CERT_DOMAIN/.test(raw)) return { ...plain, error: "net::ERR_CERT_INVALID" };
  if (/SSL_ERROR_/.test(raw)) return { ...plain, error: "net::ERR_SSL_PROTOCOL_ERROR" };
  return { ...plain, error: raw };
};
