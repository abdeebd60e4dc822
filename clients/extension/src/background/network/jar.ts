// What the cookie jar did, as rows of `javascript_cookies`: each change with its cause, whoever asked for it.
import { SESSION_EXPIRY, isoOf } from "../cookies";
import type { Row } from "../rows";
import type { CookieChange } from "./details";

/** As Chromium's rows have it: without dictionary order getting in the way of a comparison. */
const partitionOf = ({ cookie }: CookieChange): string | undefined => {
  const key = cookie.partitionKey;
  if (key === undefined || key === null) return undefined;
  const { topLevelSite = null, hasCrossSiteAncestor = null } = key;
  return JSON.stringify({ topLevelSite, hasCrossSiteAncestor });
};

export const changeRow = (change: CookieChange): Row => {
  const { cookie } = change;
  const partitionKey = partitionOf(change);
  const expiry = cookie.expirationDate === undefined ? SESSION_EXPIRY : isoOf(cookie.expirationDate * 1000);
  return {
    case: "javascriptCookie",
    value: {
      recordType: change.removed ? "deleted" : "added-or-changed",
      changeCause: change.cause,
      ...(expiry === undefined ? {} : { expiry }),
      isHttpOnly: cookie.httpOnly,
      isHostOnly: cookie.hostOnly,
      isSession: cookie.session,
      host: cookie.domain,
      isSecure: cookie.secure,
      name: cookie.name,
      path: cookie.path,
      value: cookie.value,
      sameSite: cookie.sameSite,
      ...((cookie.firstPartyDomain ?? "") === "" ? {} : { firstPartyDomain: cookie.firstPartyDomain }),
      storeId: cookie.storeId,
      source: "jar",
      ...(partitionKey === undefined ? {} : { partitionKey }),
    },
  } as Row;
};
