import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { decodeBatch } from "../src/batch";
import { parseCookie, parseStoreCall, cookieRow } from "../src/background/cookies";
import { JavascriptEncoder } from "../src/background/javascript";
import { recordBytes } from "../src/background/rows";
import { callSiteOf, callStackText } from "../src/background/stack";
import { NO_VISIT, Streams } from "../src/background/streams";
import type { ClosedBatch } from "../src/background/streams";
import { wellFormed } from "../src/background/wire";
import { JavascriptCallsSchema, RecordListSchema } from "../src/gen/sonde/record/v1/record_pb";

const facts = {
  incognito: true, windowId: 3, tabId: 1_234_567_890, frameId: 5, documentId: "D", documentUrl: "http://a/", topLevelUrl: "http://ü/",
};

test("calls encoded by hand are what the generated code reads", () => {
  const encoder = new JavascriptEncoder();
  const stack = "Error\n    at f (http://a/s.js:10:5)\n    at http://a/:1:1";
  const long = "é".repeat(300_000);
  const first = {
    symbol: "window.navigator.userAgent", operation: 1, flags: 3, at: 1_800_000_000_123_456, stack, value: long, args: "[1]", cut: 0, kind: "a",
  };
  const prefix = encoder.prefix(facts);
  assert.equal(encoder.take(), undefined);
  encoder.add(first, 4_000_000_000, prefix);
  encoder.add({ ...first, operation: 0, kind: "b", at: first.at - 300 }, 4_000_000_001, prefix);
  encoder.add({ ...first, at: first.at + 70_000 }, 4_000_000_002, prefix);
  const run = encoder.take();
  assert.ok(run);
  assert.equal(run.count, 3);
  const calls = fromBinary(JavascriptCallsSchema, run.bytes);
  assert.equal(calls.capturedAtUs, 1_800_000_000_123_456n);
  assert.equal(calls.firstPageScopedEventOrdinal, 4_000_000_000n);
  assert.deepEqual(calls.template, [0, 1, 0]);
  assert.deepEqual(calls.afterUs, [0n, -300n, 70_000n]);
  assert.deepEqual(calls.templates.map(({ operation }) => operation), ["get", "call"]);
  const { $typeName, ...call } = calls.templates[0] as unknown as Record<string, unknown>;
  assert.equal($typeName, "sonde.record.v1.JavascriptCall");
  assert.deepEqual(call, {
    incognito: true, pageScopedEventOrdinal: 0n, windowId: 3n, tabId: 1_234_567_890n, frameId: 5n,
    scriptUrl: "http://a/s.js", scriptLine: "10", scriptCol: "5", funcName: "f", documentUrl: "http://a/", topLevelUrl: "http://ü/",
    callStack: "f (http://a/s.js:10:5)\nhttp://a/:1:1", symbol: "window.navigator.userAgent", operation: "get", value: long,
    arguments: "[1]", documentId: "D", tampered: true,
  });
  encoder.add(first, 7, prefix);
  assert.equal(fromBinary(JavascriptCallsSchema, encoder.take()?.bytes ?? new Uint8Array()).templates.length, 1);
  let full = false;
  for (let i = 0; i < 1024; i++) full = encoder.add(first, i, prefix);
  assert.ok(full);
});

test("lone surrogates are written as JSON writes them, pairs are kept", () => {
  assert.equal(wellFormed("a\ud800b\u{1f600}\udc00"), "a\\ud800b\u{1f600}\\udc00");
});

test("a batch is decoded as it was encoded", () => {
  const text = "1000,2,3,7,2\n1,4,2\n0,0,1,0,1,2,-1,0\n12,0,0,1,-1,-1,1,9\nas\nta\"]";
  const { records, dropped } = decodeBatch(text);
  assert.equal(dropped, 7);
  assert.deepEqual(records[0], { symbol: "a", operation: 1, flags: 0, at: 1000, stack: "s\nta", value: "\"]", args: undefined, cut: 0, kind: "0,1,0,1,2,-1,0\n" });
  assert.deepEqual(records[1], { symbol: "a", operation: 0, flags: 1, at: 1012, stack: undefined, value: undefined, args: "s\nta", cut: 9, kind: "0,0,1,-1,-1,1,9\n" });
  for (const broken of [text.slice(0, 30), `${text}x`, text.replace("12,0,0,1", "12,0,0,1,0")]) assert.throws(() => decodeBatch(broken));
});

test("call sites of both engines", () => {
  const site = (stack: string) => callSiteOf(stack);
  assert.deepEqual(site("Error\n    at Array.map (<anonymous>)\n    at new Foo (http://a/(x).js:3:4)"), {
    scriptUrl: "http://a/(x).js", line: "3", column: "4", funcName: "Foo", locEval: undefined,
  });
  assert.deepEqual(site("Error\n    at eval (eval at run (http://a/s.js:7:9), <anonymous>:2:1)"), {
    scriptUrl: "http://a/s.js", line: "2", column: "1", funcName: "eval", locEval: "line 7 > eval",
  });
  assert.equal(site("Error\n    at async http://a/s.js:1:2")?.funcName, undefined);
  assert.equal(site("Error\n    at async http://a/s.js:1:2")?.scriptUrl, "http://a/s.js");
  assert.deepEqual(site("f@http://a/s.js line 10 > eval:1:2\n@http://a/:3:4"), {
    scriptUrl: "http://a/s.js", line: "1", column: "2", funcName: "f", locEval: "line 10 > eval",
  });
  assert.equal(site("Error"), undefined);
  assert.equal(callStackText("Error: x\n    at f (u:1:2)\n    at u:3:4"), "f (u:1:2)\nu:3:4");
});

test("cookie strings", () => {
  const at = Date.UTC(2026, 0, 1);
  assert.equal(parseCookie("", at), undefined);
  assert.deepEqual(parseCookie("a=b=c; Max-Age=10; Domain=.X.com; path=/p; SECURE; SameSite=None; Partitioned", at), {
    name: "a", value: "b=c", domain: "x.com", path: "/p", expires: at + 10_000, secure: true, httpOnly: false, sameSite: "no_restriction", partitioned: true,
  });
  assert.equal(parseCookie("nameless", at)?.value, "nameless");
  const gone = parseCookie("a=; expires=Thu, 01 Jan 1970 00:00:00 GMT", at);
  const context = { url: "https://h.test/d/e", topLevelUrl: "https://t.test/", tabId: 1, frameId: 0, at, raw: "x" };
  assert.ok(gone);
  const row = cookieRow(gone, context);
  assert.deepEqual([row.recordType, row.host, row.path, row.isHostOnly], ["deleted", "h.test", "/d", true]);
  const session = parseCookie("s=1; path=x", at);
  assert.ok(session);
  assert.deepEqual([cookieRow(session, context).expiry, cookieRow(session, context).path], ["9999-12-31T21:59:59.000Z", "/d"]);
  assert.equal(parseStoreCall('["n","v"]', false)?.value, "v");
  assert.equal(parseStoreCall('["{\\"name\\":\\"n\\",\\"value\\":\\"v\\",\\"sameSite\\":\\"lax\\"}"]', false)?.sameSite, "lax");
  assert.equal(parseStoreCall('["n"]', true)?.expires, 0);
});

test("in a batch the calls come last", () => {
  const sent: ClosedBatch[] = [];
  const streams = new Streams((batch) => sent.push(batch), () => new Uint8Array());
  const record = recordBytes(5, { case: "script", value: { url: "u" } } as never);
  const calls = toBinary(JavascriptCallsSchema, create(JavascriptCallsSchema, { template: [0, 0] }));
  streams.add(7, record);
  streams.addCalls(7, { bytes: calls, count: 2 });
  streams.addCalls(7, { bytes: calls, count: 2 });
  streams.add(7, record);
  assert.equal(streams.finish(7), 5);
  assert.deepEqual(sent.map((batch) => [batch.firstOrdinal, batch.count]), [[0, 5], [5, 1]]);
  const lists = sent.map(({ payload }) => fromBinary(RecordListSchema, payload));
  assert.deepEqual(lists.map((list) => [list.records.length, list.calls.length]), [[1, 2], [1, 0]]);
});

test("streams number records, keep what is not acknowledged, and say what they dropped", () => {
  const sent: ClosedBatch[] = [];
  const streams = new Streams((batch) => sent.push(batch), (rows) => recordBytes(1, { case: "truncation", value: { droppedRows: BigInt(rows) } } as never));
  const record = recordBytes(5, { case: "script", value: { url: "u" } } as never);
  for (let i = 0; i < 300; i++) streams.add(7, record);
  assert.equal(streams.finish(7), 299);
  assert.deepEqual(sent.map((batch) => [batch.firstOrdinal, batch.count]), [[0, 256], [256, 44]]);
  assert.equal(fromBinary(RecordListSchema, (sent[1] as ClosedBatch).payload).records.length, 44);
  streams.ack(7, 255);
  assert.deepEqual([...streams.unacknowledged()].map((batch) => batch.firstOrdinal), [256]);
  streams.add(7, new Uint8Array(15 * 1024 * 1024));
  streams.add(7, record);
  assert.equal(streams.finish(7), 301);
  const rows = fromBinary(RecordListSchema, (sent[2] as ClosedBatch).payload).records.map((row) => row.row.case);
  assert.deepEqual(rows, ["truncation", "script"]);
  assert.equal(streams.finish(NO_VISIT), -1);
});
