import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { originOf, schemefulSite, siteOf, storedUrl, thirdParty } from "../src/background/network/site";

interface Cases {
  readonly sites: readonly { url: string; site: string | null }[];
  readonly pairs: readonly { url: string; of: string; third_party: boolean | null }[];
}

/** M01: the cases that the browser-service's tests read, too. */
test("sites are those of the shared cases", () => {
  const { sites, pairs } = JSON.parse(readFileSync("../../tests/data/third-party-cases.json", "utf8")) as Cases;
  assert.ok(sites.length > 20 && pairs.length > 20);
  for (const { url, site } of sites) assert.equal(siteOf(url) ?? null, site, url);
  for (const { url, of, third_party } of pairs) assert.equal(thirdParty(url, of) ?? null, third_party, `${url} of ${of}`);
});

test("stored URLs, origins and schemeful sites", () => {
  assert.equal(storedUrl("data:image/png;base64,AAAA"), "data:image/png,<data-stripped>");
  assert.equal(storedUrl("blob:http://a/1"), "blob:http://a/1");
  assert.equal(originOf("blob:http://a/1"), "http://a");
  assert.equal(originOf("ws://a:1/x"), "ws://a:1");
  assert.equal(originOf("about:blank"), undefined);
  assert.equal(schemefulSite("https://x.b.co.uk:8443/"), "https://b.co.uk");
});
