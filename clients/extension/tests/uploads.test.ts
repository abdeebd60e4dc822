import assert from "node:assert/strict";
import { test } from "node:test";
import { Uploads } from "../src/background/network/uploads";
import type { BodyPart, Stored } from "../src/background/network/uploads";

const made = (window?: number) => {
  const sent: BodyPart[] = [];
  const done: [number, Stored][] = [];
  const uploads = new Uploads((part) => sent.push(part), window);
  const open = (): number => {
    const body: number = uploads.open((stored) => done.push([body, stored]));
    return body;
  };
  return { uploads, sent, done, open };
};

const offsets = (parts: readonly BodyPart[]): unknown[] => parts.map(({ body, offset, bytes, visitId }) => [body, offset, bytes.length, visitId]);

/** M11, I16 */
test("parts are kept until they are acknowledged, and sent again after a reconnect", () => {
  const { uploads, sent, done, open } = made();
  const body = open();
  const MIB = 1 << 20;
  assert.ok(uploads.add(body, new ArrayBuffer(2 * MIB + 5)));
  uploads.finish(body, 7);
  assert.deepEqual(offsets(sent), [[0, 0, MIB, undefined], [0, MIB, MIB, undefined], [0, 2 * MIB, 5, undefined], [0, 2 * MIB + 5, 0, 7]]);
  uploads.acked(body, 2 * MIB);
  assert.equal(uploads.held, 5);
  sent.length = 0;
  uploads.resend();
  assert.deepEqual(offsets(sent), [[0, 2 * MIB, 5, undefined], [0, 2 * MIB + 5, 0, 7]]);
  uploads.stored(body, { sha256: "x", bytes: 2 * MIB + 5 });
  uploads.stored(body, { sha256: "again", bytes: 0 });
  assert.deepEqual([done, uploads.held], [[[0, { sha256: "x", bytes: 2 * MIB + 5 }]], 0]);
});

/** R15 */
test("what is kept is bounded over all bodies; a dropped body gives its room back", () => {
  const { uploads, sent, done, open } = made(10);
  const [one, two] = [open(), open()];
  assert.ok(uploads.add(one, new ArrayBuffer(6)));
  assert.ok(!uploads.add(two, new ArrayBuffer(6)));
  uploads.drop(two);
  uploads.drop(one);
  assert.deepEqual([uploads.held, sent.filter(({ dropped }) => dropped).map(({ body }) => body)], [0, [one]]);
  uploads.stored(one, { error: "late", overflow: false });
  assert.equal(done.length, 0);
});
