import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_SHA256 } from "../src/background/network/emit";
import { Replay } from "./replay";

const counts = (values: readonly unknown[]): Record<string, number> => {
  const found: Record<string, number> = {};
  for (const value of values) found[String(value)] = (found[String(value)] ?? 0) + 1;
  return found;
};

/** M10, M11: every request of the recording has its row, and one end. */
test("a page with everything on it: rows as those of Chromium", async () => {
  const { rows, ...replay } = await (await new Replay().play("page")).finish();
  assert.equal(replay.strays.length, 0);
  for (const { requestId, url } of rows.requests) {
    const ends = rows.responses.filter((row) => row["requestId"] === requestId).length
      + rows.failures.filter((row) => row["requestId"] === requestId && row["afterResponse"] === false).length;
    assert.equal(ends, 1, String(url));
  }
  assert.deepEqual(counts(rows.failures.map((row) => row["error"])), { "net::ERR_CONNECTION_REFUSED": 1, "net::ERR_CONNECTION_RESET": 1 });
  assert.deepEqual(rows.truncations, []);
});

test("a redirect chain: hops linked, Set-Cookie lines apart, the body of the last hop", async () => {
  const replay = await (await new Replay().play("page")).finish();
  const { redirects } = replay.rows;
  assert.deepEqual(redirects.map((row) => [row["hopIndex"], Number(row["responseStatus"]), String(row["newRequestUrl"])]), [
    [0, 302, "http://localhost:8000/r2"], [1, 307, "http://localhost:8000/final.js"],
  ]);
  const last = replay.one("requests", "/final.js");
  assert.equal(last["hopIndex"], 2);
  assert.equal(String(last["requestId"]), redirects[0]?.["oldRequestId"]);
  assert.equal(replay.one("responses", "/final.js")["contentHash"], "hash of 1");
  const headers = JSON.parse(String(redirects[0]?.["headers"])) as [string, string][];
  assert.deepEqual(headers.filter(([name]) => name === "Set-Cookie"), [["Set-Cookie", "hop=1; HttpOnly"], ["Set-Cookie", "b=2"]]);
  const cookies = replay.rows.cookies.map((row) => [row["name"], row["isHttpOnly"], row["source"], row["requestId"], row["storeId"]]);
  assert.deepEqual(cookies, [["hop", true, "http", last["requestId"], "firefox-container-6"], ["b", false, "http", last["requestId"], "firefox-container-6"]]);
});

test("bodies: complete, empty, and of requests that have none", async () => {
  const replay = await (await new Replay().play("page")).finish();
  const body = (path: string): unknown[] => {
    const row = replay.one("responses", path);
    return [row["bodyOutcome"], row["contentHash"], row["bodyBytes"]];
  };
  assert.deepEqual(body("/gzip"), ["complete", "hash of 6300", 6300n]);
  assert.deepEqual(body("/twin-a"), ["complete", "hash of 2097152", 2097152n]);
  for (const path of ["/204", "/empty", "/headed"]) assert.deepEqual(body(path), ["empty", EMPTY_SHA256, 0n], path);
  assert.ok(replay.emptyStored > 0);
  assert.deepEqual(body("/missing"), ["complete", "hash of 2", 2n]);
  // What the browser keeps to itself is not an empty body.
  assert.deepEqual(body("/beacon").slice(0, 2), ["aborted", undefined]);
  assert.equal(replay.one("responses", "/socket")["bodyOutcome"], "not_asked");
  assert.equal(replay.uploads.held, 0);
});

test("workers, frames, preflights: who asked for what", async () => {
  const replay = await (await new Replay().play("page")).finish();
  const of = (path: string, ...fields: string[]): unknown[] => fields.map((field) => replay.one("requests", path)[field]);
  assert.deepEqual(of("/in-frame", "contextType", "resourceType", "isThirdPartyChannel", "isThirdPartyToTopWindow", "parentFrameId"), ["iframe", "xmlhttprequest", false, true, 0n]);
  assert.deepEqual(of("/in-worker", "contextType", "topLevelUrl", "loadingHref", "tabId"), ["worker", "http://localhost:8000/page", "http://localhost:8000/worker.js", 2n]);
  assert.deepEqual(of("/in-shared", "contextType", "tabId", "frameId", "topLevelUrl"), ["shared_worker", -1n, -1n, undefined]);
  assert.deepEqual(of("/in-sw", "contextType", "tabId"), ["service_worker", -1n]);
  assert.deepEqual(of("/events", "isXhr", "resourceType"), [false, "xmlhttprequest"]);
  assert.deepEqual(of("/gzip", "isXhr"), [true]);
  assert.deepEqual(of("/page", "resourceType", "topLevelUrl", "loadingHref", "isThirdPartyChannel"), ["main_frame", "http://localhost:8000/page", undefined, undefined]);
  const preflights = replay.rows.requests.filter((row) => String(row["url"]).endsWith("/cors"));
  assert.deepEqual(preflights.map((row) => [row["method"], row["isXhr"]]).sort(), [["OPTIONS", false], ["PUT", true]]);
  assert.deepEqual(of("/urlencoded", "postBody", "postBodyBytes"), ['{"a":["1"],"b":["é"]}', 12n]);
  assert.deepEqual(of("/binary", "postBodyRaw", "postBodyBytes"), ['[[null,"AAAA"]]', 3n]);
});

test("a service worker's own answers have rows, and what it lets pass is one request", async () => {
  const replay = await (await new Replay().play("page")).finish();
  const made = replay.one("responses", "/made-up");
  assert.deepEqual([made["fromServiceWorker"], made["responseStatus"], made["bodyBytes"], made["contentHash"]], [true, undefined, 4n, "hash of 4"]);
  const passed = replay.rows.responses.filter((row) => String(row["url"]).endsWith("/passed-on"));
  assert.deepEqual(passed.map((row) => row["fromServiceWorker"]).sort(), [false, true]);
  assert.equal(replay.one("responses", "/done")["fromServiceWorker"], false);
  const without = await (await new Replay({ save: false }).play("page")).finish();
  assert.equal(without.one("responses", "/made-up")["bodyOutcome"], "not_asked");
});

test("failures, refusals, caches: the edges", async () => {
  const replay = await (await new Replay().play("edges")).finish();
  const failure = (path: string): unknown[] => {
    const row = replay.one("failures", path);
    return [row["error"], row["browserError"], row["afterResponse"]];
  };
  const response = (path: string): unknown[] => {
    const row = replay.one("responses", path);
    return [Number(row["responseStatus"]), row["bodyOutcome"], row["isCached"]];
  };
  assert.deepEqual(failure("nope.invalid/x"), ["net::ERR_NAME_NOT_RESOLVED", "NS_ERROR_UNKNOWN_HOST", false]);
  assert.deepEqual(failure("/truncated"), ["net::ERR_CONTENT_LENGTH_MISMATCH", "NS_ERROR_NET_PARTIAL_TRANSFER", true]);
  assert.deepEqual(response("/truncated"), [200, "aborted", false]);
  assert.deepEqual(failure("/hang"), ["net::ERR_ABORTED", "NS_BINDING_ABORTED", false]);
  assert.deepEqual(failure("foo://bar"), ["net::ERR_UNKNOWN_URL_SCHEME", "redirected to foo:", false]);
  assert.deepEqual(failure(":9/s"), ["net::ERR_CONNECTION_REFUSED", "NS_ERROR_CONNECTION_REFUSED", false]);
  // The page gave them up after their heads had come: no failures.
  assert.deepEqual(response("/partial"), [200, "aborted", false]);
  assert.deepEqual(response("/es"), [200, "aborted", false]);
  // Withheld after its preflight, and given up before it was sent: no request left the browser.
  const methods = replay.rows.requests.filter((row) => String(row["url"]).endsWith("/nocors")).map((row) => row["method"]);
  assert.deepEqual(methods, ["OPTIONS"]);
  assert.deepEqual(replay.rows.requests.filter((row) => String(row["url"]).endsWith("/prefetched")), []);
  assert.deepEqual(failure("/prefetched").slice(0, 1), ["net::ERR_ABORTED"]);
  // The browser kept the body from the page and from us.
  assert.deepEqual(response("/plainnocors"), [200, "aborted", false]);
  const cached = replay.rows.responses.filter((row) => String(row["url"]).endsWith("/cached"));
  assert.deepEqual(cached.map((row) => [row["isCached"], row["headersFinal"], row["bodyOutcome"]]), [[false, true, "complete"], [true, false, "complete"]]);
  const etags = replay.rows.responses.filter((row) => String(row["url"]).endsWith("/etag"));
  assert.deepEqual(etags.map((row) => [Number(row["responseStatus"]), row["isCached"], row["bodyBytes"]]), [[200, false, 7n], [304, true, 7n]]);
  assert.deepEqual(replay.one("requests", "/multi")["postBody"], '{"a":["1"],"f":["x.bin"]}');
  const unknown = replay.resolved.filter(({ error }) => error !== undefined);
  assert.deepEqual(unknown.map(({ url, error }) => [url, error]), [["http://nope.invalid/x", "net::ERR_NAME_NOT_RESOLVED"]]);
});

/** M18 */
test("a body beyond the cap is let go, and said so; so is one that finds no room", async () => {
  for (const [wishes, reason] of [[{ maxBodyBytes: 5000 }, "body_cap"], [{ window: 5000 }, "body_backlog"]] as const) {
    const replay = await (await new Replay(wishes).play("page")).finish();
    const row = replay.one("responses", "/gzip");
    assert.deepEqual([row["bodyOutcome"], row["contentHash"], row["bodyBytes"]], ["capped", undefined, 6300n]);
    const cut = replay.rows.truncations.find(({ subject }) => subject === String(row["requestId"]));
    assert.deepEqual([cut?.["reason"], cut?.["columnName"], cut?.["droppedBytes"]], [reason, "content_hash", 6300n]);
    const filter = replay.filters.find(({ url }) => url.endsWith("/gzip"));
    assert.deepEqual([filter?.written, filter?.disconnected], [6300, true]);
    assert.equal(replay.uploads.held, 0);
  }
});

test("the end of a visit: what is open is recorded as it is, and nothing more leaves", async () => {
  const replay = new Replay({ stored: () => undefined });
  const at = { url: "http://a.test/x", method: "GET", type: "script", tabId: 2, documentUrl: "http://a.test/", timeStamp: 1 };
  replay.event({ ...at, event: "onBeforeRequest", requestId: "1" });
  replay.event({ ...at, event: "onBeforeRequest", requestId: "2", url: "http://a.test/y" });
  replay.event({ ...at, event: "onHeadersReceived", requestId: "2", url: "http://a.test/y", statusCode: 200, statusLine: "HTTP/2 200 " } as never);
  replay.event({ ...at, event: "onBeforeRequest", requestId: "3", url: "http://a.test/z" });
  replay.event({ ...at, event: "onHeadersReceived", requestId: "3", url: "http://a.test/z", statusCode: 200, statusLine: "HTTP/1.1 200 OK" } as never);
  replay.event({ event: "f.stop", requestId: "3", url: "http://a.test/z", n: 4 });
  replay.event({ ...at, event: "onCompleted", requestId: "3", url: "http://a.test/z", statusCode: 200, statusLine: "HTTP/1.1 200 OK" } as never);
  await replay.finish();
  assert.deepEqual(replay.rows.failures.map((row) => [row["error"], row["browserError"]]), [["unfinished", undefined]]);
  const fates = replay.rows.responses.map((row) => [row["bodyOutcome"], row["bodyError"], row["protocol"]]);
  assert.deepEqual(fates, [["aborted", "its end was not seen", "h2"], ["failed", "the visit ended before the body came", "http/1.1"]]);
  assert.equal(replay.tracker.open, 0);
  assert.deepEqual(replay.tracker.onBeforeRequest({ ...at, requestId: "9", frameId: 0, parentFrameId: -1 }), { cancel: true });
  replay.event({ ...at, event: "onErrorOccurred", requestId: "9", error: "NS_ERROR_ABORT" });
  replay.event({ ...at, event: "onCompleted", requestId: "1", statusCode: 200, statusLine: "" } as never);
  assert.deepEqual([replay.rows.requests.length, replay.rows.truncations.length], [3, 0]);
});

/** M05 */
test("requests of a tab that is not settled wait for its visit; those of none are kept with the reason", async () => {
  const replay = new Replay({ save: false });
  const at = { url: "http://a.test/x", method: "GET", type: "script", tabId: 5, timeStamp: 1 };
  const answered = { statusCode: 200, statusLine: "HTTP/1.1 200 OK" };
  replay.owner = () => undefined;
  replay.event({ ...at, event: "onBeforeRequest", requestId: "1" });
  replay.event({ ...at, ...answered, event: "onHeadersReceived", requestId: "1" } as never);
  replay.event({ ...at, ...answered, event: "onCompleted", requestId: "1" } as never);
  assert.equal(replay.rows.requests.length, 0);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([replay.rows.requests.length, replay.rows.responses.length], [1, 1]);
  replay.owner = () => ({ reason: "store_shared" });
  replay.event({ ...at, event: "onBeforeRequest", requestId: "2" });
  replay.event({ ...at, ...answered, event: "onCompleted", requestId: "2" } as never);
  assert.deepEqual(replay.strays.map(([reason, row]) => [reason, row.case]), [["store_shared", "httpRequest"], ["store_shared", "httpResponse"]]);
});

/** M10 */
test("a response waits for its TLS facts, which have Chromium's words", async () => {
  const replay = new Replay({ save: false });
  const at = { requestId: "1", url: "https://a.test/x", method: "GET", type: "script", tabId: 2, timeStamp: 1 };
  const answered = { statusCode: 200, statusLine: "HTTP/2.0 200 " };
  const info = {
    state: "secure", protocolVersion: "TLSv1.3", cipherSuite: "TLS_AES_256_GCM_SHA384", keaGroupName: "x25519", isUntrusted: true, usedEch: false,
    certificates: [{ subject: "CN=a.localhost", issuer: "CN=An issuer,O=x", validity: { start: 1795331619000, end: 1797923619000 }, fingerprint: { sha256: "19:16" } }],
  };
  replay.event({ ...at, event: "onBeforeRequest" });
  replay.event({ ...at, ...answered, event: "onHeadersReceived" } as never);
  const asked = replay.tracker.onSecurity("1", Promise.resolve(info));
  replay.event({ ...at, ...answered, event: "onCompleted" } as never);
  assert.equal(replay.rows.responses.length, 0);
  await asked;
  const [row] = replay.rows.responses;
  assert.equal(row?.["protocol"], "h2");
  assert.deepEqual(JSON.parse(String(row?.["tls"])), {
    protocol: "TLS 1.3", keyExchangeGroup: "X25519", cipher: "AES_256_GCM", cipherSuite: "TLS_AES_256_GCM_SHA384", subjectName: "a.localhost",
    issuer: "An issuer", validFrom: 1795331619, validTo: 1797923619, fingerprint: "19:16", encryptedClientHello: false, untrusted: true,
  });
});

test("the browser's own redirects are hops as on Chromium", async () => {
  const replay = new Replay({ save: false });
  const at = { requestId: "1", url: "http://a.test/x", method: "GET", type: "script", tabId: 2, timeStamp: 1 };
  replay.event({ ...at, event: "onBeforeRequest" });
  replay.event({ ...at, event: "onBeforeRedirect", statusCode: 0, statusLine: "", redirectUrl: "https://a.test/x" } as never);
  replay.event({ ...at, event: "onBeforeRequest", url: "https://a.test/x" });
  replay.event({ ...at, event: "onErrorOccurred", url: "https://a.test/x", error: "NS_ERROR_NET_EMPTY_RESPONSE" });
  const [hop] = replay.rows.redirects;
  assert.deepEqual([hop?.["responseStatus"], hop?.["responseStatusText"], hop?.["headersFinal"]], [307n, "HTTP/1.1 307 Internal Redirect", false]);
  assert.deepEqual(replay.rows.requests.map((row) => [row["url"], row["hopIndex"]]), [["http://a.test/x", 0], ["https://a.test/x", 1]]);
  assert.deepEqual(replay.rows.failures.map((row) => [row["error"], row["hopIndex"]]), [["net::ERR_EMPTY_RESPONSE", 1]]);
});
