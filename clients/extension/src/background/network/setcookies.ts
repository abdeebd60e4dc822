// Set-Cookie headers, as rows of `javascript_cookies`: what the server asked for. What the jar did is in jar.ts.
import { cookieRow, parseCookie } from "../cookies";
import type { Row } from "../rows";
import type { Details } from "./details";
import type { Headers } from "./headers";
import { allOf } from "./headers";
import { schemefulSite, siteOf } from "./site";

/** The key of the partition that a request's partitioned cookies are in. */
const partitionOf = (details: Details): string | undefined => {
  const urls = [details.url, ...(details.frameAncestors ?? []).map(({ url }) => url)];
  const top = details.type === "main_frame" ? details.url : (details.frameAncestors?.at(-1)?.url ?? details.documentUrl);
  const topLevelSite = top === undefined ? undefined : schemefulSite(top);
  if (top === undefined || topLevelSite === undefined) return undefined;
  const documentUrl = details.type === "main_frame" ? undefined : details.documentUrl;
  const chain = documentUrl === undefined ? urls : [...urls, documentUrl];
  return JSON.stringify({ topLevelSite, hasCrossSiteAncestor: chain.some((url) => siteOf(url) !== siteOf(top)) });
};

/** One row for every Set-Cookie header; `at` is in microseconds. */
export const setCookieRows = (details: Details, headers: Headers, at: number): Row[] =>
  allOf(headers, "set-cookie").flatMap((line) => {
    const written = parseCookie(line, at / 1000);
    if (written === undefined) return [];
    const row = cookieRow(written, {
      url: details.url, topLevelUrl: undefined, tabId: details.tabId, frameId: details.tabId < 0 ? -1 : details.frameId,
      at: at / 1000, raw: line,
    });
    const partitionKey = written.partitioned ? partitionOf(details) : undefined;
    return [{
      case: "javascriptCookie",
      value: {
        ...row, source: "http", isHttpOnly: written.httpOnly, requestId: BigInt(details.requestId),
        ...(details.cookieStoreId === undefined ? {} : { storeId: details.cookieStoreId }),
        ...(partitionKey === undefined ? {} : { partitionKey }),
      },
    } as Row];
  });
