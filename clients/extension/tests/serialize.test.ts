import { canvas } from "./page";
import assert from "node:assert/strict";
import { test } from "node:test";
import { VALUE_CAP, decodeBatch } from "../src/batch";
import { cut, serializeArguments, serializeValue } from "../src/main/serialize";
import { encode } from "../src/main/raw";

test("values", () => {
  assert.equal(serializeValue(undefined, false), null);
  assert.equal(serializeValue(null, false), "null");
  assert.equal(serializeValue("lone \ud800", false), "lone \ud800");
  assert.equal(serializeValue(10n, false), "10");
  assert.equal(serializeValue(Symbol("s"), false), "Symbol(s)");
  assert.equal(serializeValue(() => 1, false), "FUNCTION");
  assert.match(serializeValue(() => 1, true) ?? "", /=> 1/);
  assert.equal(serializeValue(canvas(), false), "CANVAS[i,c d]");
});

test("arguments are a JSON array, objects in it nested JSON text", () => {
  assert.equal(serializeArguments([], false), null);
  assert.equal(serializeArguments(["a\n", 1, NaN, true, undefined, null, { w: true }], false), '["a\\n",1,null,true,null,"null","{\\"w\\":true}"]');
});

test("no page code runs, cycles and depth end, accessors are told", () => {
  let ran = 0;
  const touch = () => { ran++; return "x"; };
  const evil: Record<string, unknown> = { toJSON: touch, toString: touch, list: [1, "a", { b: null }] };
  Object.defineProperty(evil, "got", { enumerable: true, get: touch });
  evil["self"] = evil;
  const before = Object.getOwnPropertyDescriptor(Object.prototype, "value");
  Object.defineProperty(Object.prototype, "value", { configurable: true, get: touch });
  const text = serializeValue(evil, false);
  delete (Object.prototype as { value?: unknown }).value;
  assert.equal(before, undefined);
  assert.equal(text, '{"toJSON":"FUNCTION","toString":"FUNCTION","list":[1,"a",{"b":null}],"got":"ACCESSOR","self":"CYCLE"}');
  assert.equal(ran, 0);
});

test("what is too long is cut, and counted", () => {
  assert.equal(serializeValue("x".repeat(VALUE_CAP), false)?.length, VALUE_CAP);
  assert.equal(cut.units, 0);
  assert.equal(serializeValue("x".repeat(VALUE_CAP + 5), false)?.length, VALUE_CAP);
  assert.equal(cut.units, 5);
  const text = serializeValue(Array.from({ length: 5000 }, () => 1), false) ?? "";
  assert.ok(text.length < 10_000 && text.endsWith('"CUT"]'));
  assert.ok(cut.units > 2000);
});

test("what the page's world encodes the background decodes", () => {
  const raw = {
    symbols: ["a.b", "a.b"], operations: [1, 0], flags: [0, 5], times: [1_800_000_000_000_000.2, 1_800_000_000_000_010.9],
    stacks: ["s\n1", null], values: ["", "\ud800\n"], args: [null, "x".repeat(600)], cuts: [0, 3],
  };
  assert.deepEqual(decodeBatch(encode(raw, 2, 4)), {
    dropped: 4,
    records: [
      { symbol: "a.b", operation: 1, flags: 0, at: 1_800_000_000_000_000, stack: "s\n1", value: "", args: undefined, cut: 0, kind: "0,1,0,1,2,-1,0\n" },
      { symbol: "a.b", operation: 0, flags: 5, at: 1_800_000_000_000_011, stack: undefined, value: "\ud800\n", args: "x".repeat(600), cut: 3, kind: "0,0,5,-1,3,4,3\n" },
    ],
  });
});
