// Requests that a Content-Security-Policy refused before they began: webRequest has no event of them, but their document.
import type { Refusal } from "../frames";
import type { Row } from "../rows";
import { storedUrl } from "./site";

const TYPES: Readonly<Record<string, string>> = {
  "connect-src": "xmlhttprequest", "font-src": "font", "frame-src": "sub_frame", "child-src": "sub_frame", "fenced-frame-src": "sub_frame",
  "img-src": "image", "manifest-src": "web_manifest", "media-src": "media", "object-src": "object", "script-src": "script",
  "script-src-elem": "script", "worker-src": "script", "style-src": "stylesheet", "style-src-elem": "stylesheet",
};

let refused = 0;

/** A row of http_failures; undefined for what is no request (a form's action, an ancestor). */
export const refusalRow = ({ facts, url, directive, at }: Refusal): Row | undefined => {
  const resourceType = TYPES[directive];
  if (resourceType === undefined) return undefined;
  return {
    case: "httpFailure",
    value: {
      // The browser gave it no number.
      requestId: -BigInt(Math.round(at) + refused++), hopIndex: 0, url: storedUrl(url), method: "GET",
      tabId: BigInt(facts.tabId), frameId: BigInt(facts.frameId),
      resourceType: directive === "connect-src" && url.startsWith("ws") ? "websocket" : resourceType,
      error: "net::ERR_BLOCKED_BY_CSP", canceled: false, blockedReason: "csp", afterResponse: false, browserError: directive,
    },
  } as Row;
};
