import assert from "node:assert/strict";
import { test } from "node:test";
import type { Owner } from "../src/background/attribution";
import { changeRow } from "../src/background/network/jar";
import { Names } from "../src/background/network/names";
import { failureOf } from "../src/background/network/errors";

const owner = { visit: { visitId: 7, network: { dns: true } } } as unknown as Owner;
const hop = { requestId: "3", url: "http://a.test/x", at: 5, address: "10.0.0.1", error: undefined };
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

/** M15 */
test("each hop has a row; what the second look-up says is marked, and asked once", async () => {
  const rows: unknown[] = [];
  let asked = 0;
  const resolve = (host: string) => {
    asked++;
    return host === "a.test"
      ? Promise.resolve({ addresses: ["10.0.0.1", "10.0.0.2"], canonicalName: "c.test", isTRR: false })
      : host === "b.test" ? Promise.reject(new Error("NS_ERROR_UNKNOWN_HOST")) : new Promise<never>(() => undefined);
  };
  const names = new Names({ resolve }, (_owner, at, row) => rows.push([at, row.value]));
  names.resolved(owner, hop);
  names.resolved(owner, { ...hop, requestId: "4" });
  names.resolved(owner, { ...hop, url: "http://b.test/" });
  names.resolved(owner, { ...hop, url: "http://slow.test/" });
  names.resolved(owner, { ...hop, url: "http://gone.test/", address: undefined, error: "net::ERR_NAME_NOT_RESOLVED" });
  for (const url of ["http://10.0.0.1/", "http://[::1]:8/"]) names.resolved(owner, { ...hop, url });
  await names.finish(7, soon());
  const second = { redirectUrl: "http://a.test/x", hostname: "a.test", source: "second_lookup", usedAddress: "10.0.0.1", addresses: "10.0.0.1,10.0.0.2", isTrr: false, canonicalName: "c.test" };
  assert.deepEqual(rows, [
    [5, { requestId: 3n, hostname: "gone.test", redirectUrl: "http://gone.test/", source: "network_stack", error: "net::ERR_NAME_NOT_RESOLVED" }],
    [5, { requestId: 3n, ...second }],
    [5, { requestId: 4n, ...second }],
    [5, { requestId: 3n, hostname: "b.test", redirectUrl: "http://b.test/", source: "second_lookup", usedAddress: "10.0.0.1", error: "NS_ERROR_UNKNOWN_HOST" }],
    [5, { requestId: 3n, hostname: "slow.test", redirectUrl: "http://slow.test/", source: "second_lookup", usedAddress: "10.0.0.1", error: "not answered before the end of the visit" }],
  ]);
  assert.equal(asked, 3);
});

/** M12 */
test("a change of the jar keeps its cause, partition and store", () => {
  const cookie = {
    name: "n", value: "v", domain: ".a.test", hostOnly: false, path: "/", secure: true, httpOnly: true, sameSite: "lax", session: false,
    expirationDate: 1_700_000_000.5, storeId: "firefox-container-6", firstPartyDomain: "",
    partitionKey: { topLevelSite: "https://t.test", hasCrossSiteAncestor: true },
  };
  const row = changeRow({ removed: true, cause: "overwrite", cookie }).value as unknown as Record<string, unknown>;
  assert.deepEqual([row["recordType"], row["changeCause"], row["source"], row["expiry"]], ["deleted", "overwrite", "jar", "2023-11-14T22:13:20.500Z"]);
  assert.deepEqual([row["partitionKey"], row["storeId"], row["firstPartyDomain"]], ['{"topLevelSite":"https://t.test","hasCrossSiteAncestor":true}', "firefox-container-6", undefined]);
});

test("errors have Chromium's words where they mean the same", () => {
  const of = (raw: string) => {
    const { error, canceled, blockedReason, corsError } = failureOf(raw);
    return [error, canceled, blockedReason ?? corsError];
  };
  assert.deepEqual(of("NS_ERROR_UNKNOWN_HOST"), ["net::ERR_NAME_NOT_RESOLVED", false, undefined]);
  assert.deepEqual(of("NS_BINDING_ABORTED"), ["net::ERR_ABORTED", true, undefined]);
  assert.deepEqual(of("NS_ERROR_DOM_BAD_URI"), ["net::ERR_FAILED", false, "unknown"]);
  assert.deepEqual(of("NS_ERROR_TRACKING_URI"), ["net::ERR_BLOCKED_BY_CLIENT", false, "subresource-filter"]);
  assert.deepEqual(of("SSL_ERROR_BAD_CERT_DOMAIN"), ["net::ERR_CERT_INVALID", false, undefined]);
  assert.deepEqual(of("The certificate is not trusted because it is self-signed.")[0], "net::ERR_CERT_AUTHORITY_INVALID");
  assert.deepEqual(of("NS_ERROR_SOMETHING_NEW"), ["NS_ERROR_SOMETHING_NEW", false, undefined]);
});
