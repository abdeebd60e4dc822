// Rows of the http tables. They mean what those of Chromium mean (engine/chromium/http/rows.rs).
import type { Row } from "../rows";
import type { Details } from "./details";
import { lastHop } from "./exchange";
import type { Exchange, Hop, Reply } from "./exchange";
import type { Failure } from "./errors";
import { headerOf } from "./headers";
import { originOf, storedUrl, thirdParty } from "./site";
import { contextType, isXhr, resourceType } from "./words";
import type { Contexts } from "./words";

/** What became of a response's body. */
export interface BodyFate {
  readonly outcome: "complete" | "capped" | "aborted" | "failed" | "empty" | "not_asked";
  readonly error?: string | undefined;
  readonly contentHash?: string | undefined;
  readonly bytes?: number | undefined;
}

/** What the rows of a request need beside it. */
export interface Around {
  readonly windowOf: (tabId: number) => number | undefined;
  readonly contexts: Contexts;
}

const defined = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

const big = (value: number | undefined): bigint | undefined => (value === undefined ? undefined : BigInt(value));

const ofTab = (details: Details, around: Around): Record<string, unknown> => ({
  incognito: details.incognito ?? false,
  windowId: big(around.windowOf(details.tabId)),
  tabId: BigInt(details.tabId),
  frameId: BigInt(details.tabId < 0 ? -1 : details.frameId),
});

const isNavigation = (details: Details): boolean => details.type === "main_frame" || details.type === "sub_frame";

/** The URL of the top-level document. */
const topOf = (details: Details, contexts: Contexts): string | undefined => {
  if (details.type === "main_frame") return details.url;
  if (details.tabId < 0) return undefined;
  return details.frameAncestors?.at(-1)?.url ?? contexts.topOf(details) ?? details.documentUrl;
};

/** The document, or the worker's script, that loads it; the top document is loaded by none. */
const loaderOf = (details: Details, contexts: Contexts): string | undefined => {
  const { type, documentUrl, originUrl } = details;
  if (type === "main_frame") return undefined;
  if (type === "sub_frame") return details.frameAncestors?.[0]?.url ?? documentUrl;
  return contexts.kindOf(details) === undefined ? (documentUrl ?? originUrl) : originUrl;
};

export const requestRow = (exchange: Exchange, hop: Hop, index: number, around: Around): Row => {
  const { details, post } = hop;
  const headers = hop.sent ?? [];
  const [top, loader] = [topOf(details, around.contexts), loaderOf(details, around.contexts)];
  const cause = isNavigation(details) ? (details.originUrl ?? loader) : loader;
  const inTab = details.tabId >= 0;
  const ancestors = details.frameAncestors?.map(({ frameId, url }) => ({ frameId, url: storedUrl(url) })) ?? [];
  const length = Number(headerOf(headers, "content-length") ?? Number.NaN);
  const bytes = post.bytes ?? (post.fields !== undefined || post.unavailable !== undefined || post.cut > 0 ? length : Number.NaN);
  return {
    case: "httpRequest",
    value: defined({
      ...ofTab(details, around),
      url: storedUrl(details.url),
      topLevelUrl: top === undefined ? undefined : storedUrl(top),
      parentFrameId: inTab ? big(details.parentFrameId) : undefined,
      frameAncestors: inTab ? JSON.stringify(ancestors) : undefined,
      method: details.method,
      referrer: headerOf(headers, "referer") ?? "",
      headers: JSON.stringify(headers),
      requestId: BigInt(exchange.id),
      isXhr: isXhr(details, headers),
      isThirdPartyChannel: loader === undefined ? undefined : thirdParty(details.url, loader),
      isThirdPartyToTopWindow: top === undefined ? undefined : thirdParty(details.url, top),
      triggeringOrigin: cause === undefined ? undefined : originOf(cause),
      loadingOrigin: loader === undefined ? undefined : originOf(loader),
      loadingHref: loader === undefined ? undefined : storedUrl(loader),
      resourceType: resourceType(details),
      postBody: post.fields,
      postBodyRaw: post.raw,
      postBodyBytes: Number.isNaN(bytes) ? undefined : big(bytes),
      hopIndex: index,
      headersFinal: hop.sent !== undefined && !(hop.reply?.fromCache === true && !hop.reply.revalidated),
      initiator: details.originUrl === undefined ? undefined : JSON.stringify({ url: storedUrl(details.originUrl) }),
      contextType: contextType(details, headers, around.contexts),
    }),
  } as Row;
};

/** `http/1.1`, `h2`, `h3`. */
const protocolOf = (line: string): string | undefined => {
  const version = /^HTTP\/(\d(?:\.\d)?)/.exec(line)?.[1];
  if (version === undefined) return undefined;
  return version.startsWith("1") ? `http/${version}` : `h${version.slice(0, 1)}`;
};

/** Milliseconds since the request was made, by the times of the browser's events. */
const timingOf = (hop: Hop, reply: Reply, end: number | undefined): string =>
  JSON.stringify({
    source: "webRequest",
    requestTime: hop.at / 1e6,
    ...Object.fromEntries(
      Object.entries({ sendStart: hop.sentAt, receiveHeadersEnd: reply.at, loadingEnd: end })
        .filter((entry): entry is [string, number] => entry[1] !== undefined)
        .map(([name, at]) => [name, (at - hop.at) / 1000]),
    ),
  });

export const responseRow = (exchange: Exchange, reply: Reply, fate: BodyFate, around: Around): Row => {
  const hop = lastHop(exchange);
  const { end } = exchange;
  return {
    case: "httpResponse",
    value: defined({
      ...ofTab(hop.details, around),
      url: storedUrl(hop.details.url),
      method: hop.details.method,
      responseStatus: big(reply.status),
      responseStatusText: reply.line.trimEnd(),
      isCached: reply.fromCache,
      headers: JSON.stringify(reply.headers),
      requestId: BigInt(exchange.id),
      location: headerOf(reply.headers, "location") ?? "",
      contentHash: fate.contentHash,
      hopIndex: exchange.hops.length - 1,
      protocol: protocolOf(reply.line),
      remoteIp: reply.ip,
      bodyBytes: big(fate.bytes),
      bodyOutcome: fate.outcome,
      bodyError: fate.error,
      tls: hop.tls,
      timing: timingOf(hop, reply, end?.kind === "whole" ? end.at : undefined),
      headersFinal: reply.status !== undefined && (!reply.fromCache || reply.revalidated),
      fromServiceWorker: hop.intercepted !== undefined,
    }),
  } as Row;
};

/** The browser sent itself elsewhere (HSTS and the like): Chromium says it so. */
const INTERNAL = { status: 307, line: "HTTP/1.1 307 Internal Redirect" };

export const redirectRow = (exchange: Exchange, hop: Hop, index: number, reply: Reply, to: string, around: Around): Row => {
  const internal = (reply.status ?? 0) === 0;
  const { status = 0, line } = internal ? INTERNAL : reply;
  return { case: "httpRedirect", value: defined({
    ...ofTab(hop.details, around),
    oldRequestUrl: storedUrl(hop.details.url),
    oldRequestId: exchange.id,
    newRequestUrl: storedUrl(to),
    newRequestId: exchange.id,
    responseStatus: BigInt(status),
    responseStatusText: line.trimEnd(),
    headers: JSON.stringify(reply.headers),
    hopIndex: index,
    headersFinal: !internal && !reply.fromCache,
  }) } as Row;
};

export const failureRow = (exchange: Exchange, failure: Failure): Row => {
  const hop = lastHop(exchange);
  const { details } = hop;
  return {
    case: "httpFailure",
    value: defined({
      requestId: BigInt(exchange.id),
      hopIndex: exchange.hops.length - 1,
      url: storedUrl(details.url),
      method: details.method,
      tabId: BigInt(details.tabId),
      frameId: BigInt(details.tabId < 0 ? -1 : details.frameId),
      resourceType: resourceType(details),
      error: failure.error,
      canceled: failure.canceled,
      blockedReason: failure.blockedReason,
      corsError: failure.corsError,
      afterResponse: hop.reply !== undefined,
      browserError: failure.raw,
    }),
  } as Row;
};
