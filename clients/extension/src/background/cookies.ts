// Script writes of cookies, as rows of `javascript_cookies`: what the page asked for, parsed as RFC 6265bis does.
// Whether the browser took it is told by the snapshots and, for HTTP, by devtools.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { JavascriptCookieSchema } from "../gen/sonde/record/v1/cookies_pb";

type Row = MessageInitShape<typeof JavascriptCookieSchema>;

/** OpenWPM's expiry of a session cookie. */
export const SESSION_EXPIRY = "9999-12-31T21:59:59.000Z";

export const isoOf = (milliseconds: number): string | undefined => {
  const date = new Date(Math.min(milliseconds, 253402300799000));
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
};

interface Written {
  name: string;
  value: string;
  domain: string | undefined;
  path: string | undefined;
  /** Milliseconds since the epoch. */
  expires: number | undefined;
  secure: boolean;
  httpOnly: boolean;
  sameSite: string;
  partitioned: boolean;
}

const SAME_SITE: Record<string, string> = { none: "no_restriction", lax: "lax", strict: "strict" };

/** A cookie string as document.cookie or a Set-Cookie header has it; undefined for one that browsers ignore. */
export const parseCookie = (text: string, now: number): Written | undefined => {
  const [pair = "", ...attributes] = text.split(";");
  const equals = pair.indexOf("=");
  const name = equals < 0 ? "" : pair.slice(0, equals).trim();
  const value = pair.slice(equals + 1).trim();
  if (name === "" && value === "") return undefined;
  const written: Written = {
    name, value, domain: undefined, path: undefined, expires: undefined, secure: false, httpOnly: false,
    sameSite: "unspecified", partitioned: false,
  };
  let maxAge: number | undefined;
  for (const attribute of attributes) {
    const at = attribute.indexOf("=");
    const key = (at < 0 ? attribute : attribute.slice(0, at)).trim().toLowerCase();
    const setting = at < 0 ? "" : attribute.slice(at + 1).trim();
    if (key === "secure") written.secure = true;
    else if (key === "httponly") written.httpOnly = true;
    else if (key === "partitioned") written.partitioned = true;
    else if (key === "domain" && setting !== "") written.domain = setting.replace(/^\./, "").toLowerCase();
    else if (key === "path") written.path = setting.startsWith("/") ? setting : undefined;
    else if (key === "samesite") written.sameSite = SAME_SITE[setting.toLowerCase()] ?? "unspecified";
    else if (key === "expires") {
      const date = Date.parse(setting);
      if (!Number.isNaN(date)) written.expires = date;
    } else if (key === "max-age" && /^-?\d+$/.test(setting)) maxAge = Number(setting);
  }
  if (maxAge !== undefined) written.expires = maxAge <= 0 ? 0 : now + maxAge * 1000;
  return written;
};

/** The arguments of cookieStore.set or delete, as the serializer wrote them. */
export const parseStoreCall = (args: string | undefined, deleted: boolean): Written | undefined => {
  const parsed: unknown = JSON.parse(args ?? "[]");
  if (!Array.isArray(parsed)) return undefined;
  const first: unknown = parsed[0];
  const options = typeof first === "string" && first.startsWith("{") && parsed.length === 1 ? fieldsOf(first) : { name: first, value: parsed[1] };
  if (options === undefined || typeof options["name"] !== "string") return undefined;
  const { name, value, expires, domain, path, sameSite, partitioned } = options as Record<string, unknown>;
  return {
    name: name as string,
    value: deleted ? "" : String(value ?? ""),
    domain: typeof domain === "string" ? domain.replace(/^\./, "").toLowerCase() : undefined,
    path: typeof path === "string" ? path : "/",
    expires: deleted ? 0 : typeof expires === "number" ? expires : undefined,
    secure: true,
    httpOnly: false,
    sameSite: SAME_SITE[typeof sameSite === "string" ? sameSite : "strict"] ?? "strict",
    partitioned: partitioned === true,
  };
};

const fieldsOf = (json: string): Record<string, unknown> | undefined => {
  try {
    const fields: unknown = JSON.parse(json);
    return typeof fields === "object" && fields !== null ? (fields as Record<string, unknown>) : undefined;
  } catch {
    return { name: json };
  }
};

/** RFC 6265 5.1.4. */
const defaultPath = (pathname: string): string => {
  const last = pathname.lastIndexOf("/");
  return last <= 0 ? "/" : pathname.slice(0, last);
};

export interface WriteContext {
  readonly url: string | undefined;
  readonly topLevelUrl: string | undefined;
  readonly tabId: number;
  readonly frameId: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly raw: string;
}

export const cookieRow = (written: Written, context: WriteContext): Row => {
  const url = URL.canParse(context.url ?? "") ? new URL(context.url ?? "") : undefined;
  const top = URL.canParse(context.topLevelUrl ?? "") ? new URL(context.topLevelUrl ?? "") : undefined;
  const host = written.domain === undefined ? url?.hostname : `.${written.domain}`;
  const gone = written.expires !== undefined && written.expires <= context.at;
  const expiry = written.expires === undefined ? SESSION_EXPIRY : isoOf(written.expires);
  return {
    recordType: gone ? "deleted" : "added-or-changed",
    changeCause: gone ? "expired_overwrite" : "explicit",
    ...(expiry === undefined ? {} : { expiry }),
    isHttpOnly: false,
    isHostOnly: written.domain === undefined,
    isSession: written.expires === undefined,
    ...(host === undefined ? {} : { host }),
    isSecure: written.secure,
    name: written.name,
    path: written.path ?? defaultPath(url?.pathname ?? "/"),
    value: written.value,
    sameSite: written.sameSite,
    source: "script",
    ...(written.partitioned && top !== undefined ? { partitionKey: JSON.stringify({ topLevelSite: top.origin }) } : {}),
    ...(context.url === undefined ? {} : { url: context.url }),
    tabId: BigInt(context.tabId),
    frameId: BigInt(context.frameId),
    raw: context.raw,
  };
};
