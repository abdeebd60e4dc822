// What of Firefox's webRequest, dns and StreamFilter is used: https://searchfox.org/mozilla-release/source/toolkit/components/extensions/schemas/web_request.json

export interface HttpHeader {
  readonly name: string;
  readonly value?: string;
  /** Bytes of a value that is no UTF-8. */
  readonly binaryValue?: readonly number[];
}

/** What every event tells of its request; times in milliseconds since the epoch. */
export interface Details {
  /** Kept over redirects; unique in one browser process. */
  readonly requestId: string;
  readonly url: string;
  readonly method: string;
  readonly type: string;
  readonly timeStamp: number;
  /** -1 for shared and service workers. */
  readonly tabId: number;
  readonly frameId: number;
  readonly parentFrameId: number;
  readonly incognito?: boolean;
  readonly cookieStoreId?: string;
  /** What caused it: a document, or the script of a worker. */
  readonly originUrl?: string;
  readonly documentUrl?: string;
  /** Nearest first. */
  readonly frameAncestors?: readonly { readonly frameId: number; readonly url: string }[];
}

export interface UploadData {
  readonly bytes?: ArrayBuffer;
  readonly file?: string;
  /** Bytes of which `bytes` are the first. */
  readonly originalSize?: number;
}

export interface BeforeRequest extends Details {
  readonly requestBody?: {
    readonly error?: string;
    readonly formData?: Readonly<Record<string, readonly string[]>>;
    readonly raw?: readonly UploadData[];
  } | null;
}

export interface SendHeaders extends Details {
  readonly requestHeaders?: readonly HttpHeader[];
}

export interface Answered extends Details {
  readonly statusCode: number;
  readonly statusLine: string;
  readonly responseHeaders?: readonly HttpHeader[];
  readonly fromCache?: boolean;
  readonly ip?: string | null;
  /** Bytes on the wire so far. */
  readonly responseSize?: number;
}

export interface Redirected extends Answered {
  readonly redirectUrl: string;
}

export interface Failed extends Details {
  readonly error: string;
  readonly fromCache?: boolean;
  readonly ip?: string | null;
}

export interface Blocking {
  readonly cancel?: boolean;
}

interface Listened<D, R = void> {
  addListener(listener: (details: D) => R, filter: { urls: string[]; types?: string[] }, extra?: string[]): void;
}

/** https://developer.mozilla.org/docs/Mozilla/Add-ons/WebExtensions/API/webRequest/StreamFilter */
export interface StreamFilter {
  onstart: (() => void) | null;
  ondata: ((event: { readonly data: ArrayBuffer }) => void) | null;
  onstop: (() => void) | null;
  onerror: (() => void) | null;
  readonly error: string;
  write(data: ArrayBuffer | Uint8Array): void;
  close(): void;
  disconnect(): void;
}

/** https://developer.mozilla.org/docs/Mozilla/Add-ons/WebExtensions/API/webRequest/SecurityInfo */
export interface SecurityInfo {
  readonly state: string;
  readonly protocolVersion?: string;
  readonly cipherSuite?: string;
  readonly keaGroupName?: string;
  readonly isUntrusted?: boolean;
  readonly isDomainMismatch?: boolean;
  readonly isNotValidAtThisTime?: boolean;
  readonly usedEch?: boolean;
  /** That of the server first. */
  readonly certificates?: readonly {
    readonly subject: string;
    readonly issuer: string;
    /** Milliseconds since the epoch. */
    readonly validity: { readonly start: number; readonly end: number };
    readonly fingerprint: { readonly sha256: string };
  }[];
}

export interface WebRequest {
  readonly onBeforeRequest: Listened<BeforeRequest, Blocking | undefined>;
  readonly onBeforeSendHeaders: Listened<SendHeaders, Promise<undefined> | undefined>;
  readonly onSendHeaders: Listened<SendHeaders>;
  readonly onHeadersReceived: Listened<Answered>;
  readonly onResponseStarted: Listened<Answered>;
  readonly onBeforeRedirect: Listened<Redirected>;
  readonly onCompleted: Listened<Answered>;
  readonly onErrorOccurred: Listened<Failed>;
  filterResponseData(requestId: string): StreamFilter;
  /** Within a blocking listener of onHeadersReceived. */
  getSecurityInfo(requestId: string, options: object): Promise<SecurityInfo>;
}

export interface DnsRecord {
  readonly addresses: readonly string[];
  readonly canonicalName?: string;
  readonly isTRR: boolean | string;
}

export interface Dns {
  resolve(host: string, flags: string[]): Promise<DnsRecord>;
}

/** https://developer.mozilla.org/docs/Mozilla/Add-ons/WebExtensions/API/cookies/Cookie */
export interface JarCookie {
  readonly name: string;
  readonly value: string;
  /** With a leading dot unless it is for one host. */
  readonly domain: string;
  readonly hostOnly: boolean;
  readonly path: string;
  readonly secure: boolean;
  readonly httpOnly: boolean;
  readonly sameSite: string;
  readonly session: boolean;
  /** Seconds since the epoch. */
  readonly expirationDate?: number;
  readonly storeId: string;
  readonly firstPartyDomain?: string;
  readonly partitionKey?: { readonly topLevelSite?: string; readonly hasCrossSiteAncestor?: boolean } | null;
}

export interface CookieChange {
  readonly removed: boolean;
  readonly cookie: JarCookie;
  /** explicit, overwrite, expired, expired_overwrite or evicted. */
  readonly cause: string;
}

/** The parts of the browser that only Firefox gives an extension. */
export interface NetworkApi {
  readonly webRequest: WebRequest;
  readonly dns: Dns;
  readonly cookies: { readonly onChanged: { addListener(listener: (change: CookieChange) => void): void } };
  readonly runtime: { getBrowserInfo(): Promise<unknown> };
}
