import assert from "node:assert/strict";
import { test } from "node:test";
import { Ears } from "../src/ears";
import { Prefix } from "../src/background/workers/prefix";
import { beginning } from "../src/background/workers/prologue";
import { Stacks } from "../src/background/workers/stacks";

const HOOKS = "try{hooks}catch{}";

test("the beginning of a script tells what may be put before it", () => {
  const how = (text: string): string => {
    const known = beginning(text, true);
    return known === undefined ? "unknown" : `${known.strict ? "strict" : "sloppy"}${known.comment ? " comment" : ""}`;
  };
  const strict = [
    "'use strict'; a()", '"use strict"\nvar a', "/* licence */ 'use strict'; a", "// one\n\n  // two\n'use strict';",
    "'use asm'; 'use strict'; a", "\ufeff'use strict';", "'use strict'", "'use strict' /* end */ }", "'another'\n'use strict'\na()",
    "'a\\'b'; 'use strict'; c",
  ];
  for (const text of strict) assert.equal(how(text), "strict", text);
  const sloppy = [
    "", "a()", "var a; 'use strict';", "'use strict' + a", "'use strict'.length", "'use strict', a", "'use strict'\n.length",
    "'use\\x20strict'; a", "'use strict'\nin a", "('use strict')", "`use strict`", "/re/.test('use strict')", "'use strict' in a", "/* open",
  ];
  for (const text of sloppy) assert.equal(how(text), "sloppy", text);
  assert.equal(how("'use strict'\ninner()"), "strict");
  assert.equal(how("#!/usr/bin/env node\n'use strict';"), "sloppy comment");
  assert.equal(how(" --> an old comment\na"), "sloppy comment");
});

const given = (source: Uint8Array<ArrayBuffer>, size: number): { text: string; columns: number | undefined; bytes: Uint8Array } => {
  let columns: number | undefined;
  const prefix = new Prefix(HOOKS, (moved) => { columns = moved; });
  const out: Uint8Array[] = [];
  const put = (pieces: readonly (ArrayBuffer | Uint8Array)[]): void => {
    for (const piece of pieces) out.push(piece instanceof ArrayBuffer ? new Uint8Array(piece) : piece);
  };
  for (let at = 0; at < source.length; at += size) put(prefix.take(source.slice(at, at + size).buffer));
  put(prefix.end());
  const bytes = new Uint8Array(Buffer.concat(out));
  return { text: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), columns, bytes };
};

test("hooks go before the first line, however the script comes", () => {
  const encoder = new TextEncoder();
  const cases: [string, string][] = [
    ["navigator.platform; // and so on\n", `${HOOKS}navigator.platform; // and so on\n`],
    ["/* é */ 'use strict';\nthis", `'use strict';${HOOKS}/* é */ 'use strict';\nthis`],
    ["\ufeffnavigator.platform", `\ufeff${HOOKS}navigator.platform`],
    ["#! x\na", `${HOOKS}//#! x\na`],
    ["a", `${HOOKS}a`], ["", ""],
  ];
  for (const [source, expected] of cases) {
    for (const size of [1, 2, 5, 1000]) {
      const { text, columns } = given(encoder.encode(source), size);
      assert.equal(text, expected, `${source} by ${size}`);
      assert.equal(columns, source === "" ? undefined : expected.length - source.length);
    }
  }
  const broken = new Uint8Array([0x61, 0xff, 0xfe, 0x62]);
  assert.deepEqual([...given(broken, 3).bytes.slice(HOOKS.length)], [...broken]);
});

test("stacks are those of the scripts as they came", () => {
  const stacks = new Stacks();
  stacks.note("http://a.test/w.js", 100);
  const stack = [
    "apply@http://a.test/w.js:1:60", "flood@http://a.test/w.js:1:111", "@http://a.test/w.js#part:1:101", "@http://a.test/w.js:2:50",
    "@http://a.test/w.js line 1 > eval:1:7", "@http://a.test/other.js:1:120", "",
  ].join("\n");
  assert.deepEqual(stacks.original(stack).split("\n"), [
    "flood@http://a.test/w.js:1:11", "@http://a.test/w.js#part:1:1", "@http://a.test/w.js:2:50",
    "@http://a.test/w.js line 1 > eval:1:7", "@http://a.test/other.js:1:120", "",
  ]);
});

/** The other end, as main/prefix.ts has it. */
const worker = (name: string, answers: boolean): { heard: string[]; close: () => void } => {
  const channel = new BroadcastChannel(name);
  const heard: string[] = [];
  channel.onmessage = ({ data }: MessageEvent) => {
    const message = String(data);
    heard.push(message);
    if (message === "?") {
      channel.postMessage("hone\nhttp://a.test/w.js");
      channel.postMessage("bone 1 0\nfirst");
    }
    if (answers && message[0] === "e") {
      channel.postMessage("bone 2 5\nlast");
      channel.postMessage(`done ${message.slice(1)}`);
    }
  };
  return { heard, close: () => channel.close() };
};

test("a document hears its workers out, and does not wait for one that has ended", async () => {
  const said: string[] = [];
  let wake = (): void => {};
  const ears = new Ears((name, message) => { said.push(`${name} ${message}`); wake(); });
  const two = (count: number): Promise<void> => new Promise((resolve) => {
    wake = () => { if (said.length >= count) resolve(); };
    wake();
  });
  const [live, gone] = [worker("live", true), worker("gone", false)];
  ears.listen(["live", "gone", "live"]);
  await two(4);
  const started = performance.now();
  await ears.flush(300);
  assert.ok(performance.now() - started >= 290, "one of them did not answer");
  assert.ok(said.includes("live bone 2 5\nlast"), said.join());
  await ears.flush(60_000);
  assert.deepEqual(live.heard.filter((message) => message.startsWith("a")).slice(0, 2), ["aone 1", "aone 2"]);
  live.close();
  gone.close();
  ears.close();
});
