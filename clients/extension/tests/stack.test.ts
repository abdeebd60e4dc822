import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { callSiteOf, callStackText } from "../src/background/stack";

/** Stacks as the browsers gave them for one script, whose helper `take` is the first frame. */
const captured = (browser: string): Record<string, string> => {
  const { stacks } = JSON.parse(readFileSync(`tests/data/stacks-${browser}.json`, "utf8")) as { stacks: Record<string, string> };
  return Object.fromEntries(Object.entries(stacks).map(([name, stack]) => [name, stack.replace(/^.*\btake\b.*s\.js:2:38.*\n/m, "")]));
};

/** `function url line:column eval` of every stack. */
const sites = (browser: string): Record<string, string> =>
  Object.fromEntries(Object.entries(captured(browser)).map(([name, stack]) => {
    const site = callSiteOf(stack);
    assert.ok(site, name);
    const file = site.scriptUrl.replace("http://site.test/", "").replace(/[0-9a-f-]{36}/, "ID");
    return [name, `${site.funcName ?? "-"} ${file} ${site.line}:${site.column} ${site.locEval ?? "-"}`];
  }));

/** M13 */
test("call sites of stacks that Chromium gave", () => {
  assert.deepEqual(sites("chromium"), {
    "plain": "plain s.js 4:20 -",
    "constructor": "Foo s.js 6:29 -",
    "method": "Foo.method s.js 6:63 -",
    "getter": "get acc s.js 6:93 -",
    "static": "Foo.st s.js 6:135 -",
    "private": "#p s.js 6:160 -",
    "computed": "com puted s.js 6:216 -",
    "alias": "Object.plain2 s.js 8:50 -",
    "native": "- s.js 9:15 -",
    "eval": "eval s.js 1:1 line 10 > eval",
    "nested eval": "eval s.js 1:1 line 11 > eval line 1 > eval",
    "inner eval": "inner s.js 3:20 line 12 > eval",
    "Function": "eval s.js 3:1 line 14 > eval",
    "named eval": "eval named.js 1:1 -",
    "listener": "HTMLDocument.listener s.js 23:54 -",
    "inserted script": "- <anonymous> 1:1 -",
    "attribute handler": "HTMLDivElement.onclick index.html 1:86 -",
    "generator": "g s.js 26:30 -",
    "async arrow": "- s.js 16:28 -",
    "then": "then s.js 22:42 -",
    "string timer": "- <anonymous> 1:1 -",
    "timer": "timer s.js 21:31 -",
    "javascript url": "- <anonymous> 1:6 -",
    "inline": "inline index.html 2:21 -",
    "parsed handler": "HTMLButtonElement.onclick index.html 4:101 -",
    "async function": "af s.js 17:67 -",
    "module": "inModule m.js 1:23 -",
    "inline module": "- index.html 4:30 -",
    "blob": "- blob:ID 1:1 -",
    "data": "- data:text/javascript,take('data') 1:1 -",
  });
});

/** M13 */
test("call sites of stacks that Firefox gave", () => {
  assert.deepEqual(sites("firefox"), {
    "plain": "plain s.js 4:24 -",
    "constructor": "Foo s.js 6:33 -",
    "method": "method s.js 6:67 -",
    "getter": "get acc s.js 6:97 -",
    "static": "st s.js 6:139 -",
    "private": "#p s.js 6:164 -",
    "computed": "com puted s.js 6:220 -",
    "alias": "plain2 s.js 8:54 -",
    "native": "- s.js 9:19 -",
    "eval": "- s.js 1:5 line 10 > eval",
    "nested eval": "- s.js 1:5 line 11 > eval line 1 > eval",
    "inner eval": "inner s.js 3:24 line 12 > eval",
    "Function": "anonymous s.js 3:5 line 14 > Function",
    "named eval": "- named.js 1:5 -",
    "listener": "listener s.js 23:58 -",
    "inserted script": "- index.html 1:5 line 24 > injectedScript",
    "attribute handler": "onclick index.html 1:5 -",
    "generator": "g s.js 26:34 -",
    "async arrow": "- s.js 16:32 -",
    "then": "then s.js 22:46 -",
    "inline": "inline index.html 2:25 -",
    "parsed handler": "onclick index.html 1:5 -",
    "inline module": "- index.html 4:34 -",
    "string timer": "- s.js 20:5 -",
    "timer": "timer s.js 21:35 -",
    "blob": "- blob:ID 1:5 -",
    "data": "- data:text/javascript,take('data') 1:5 -",
    "javascript url": "- javascript:void take('javascript url') 1:6 -",
    "async function": "af s.js 17:71 -",
    "module": "inModule m.js 1:27 -",
  });
});

test("asynchronous frames and stacks as stored", () => {
  assert.equal(callSiteOf("promise callback*then@http://a/s.js:1:2")?.funcName, "then");
  assert.equal(callSiteOf("setTimeout handler*@http://a/s.js:1:2")?.funcName, undefined);
  assert.equal(
    callSiteOf("Error\n    at late (eval at eval (eval at run (http://a/s.js:7:9)), <anonymous>:5:6)\n    at http://a/s.js:9:1")?.locEval,
    "line 7 > eval > eval",
  );
  assert.equal(callStackText("f@u:1:2\n@u:3:4\n"), "f@u:1:2\n@u:3:4");
});
