import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { RelayStartSchema } from "../src/gen/sonde/browser/v1/relay_pb";

const kept: Record<string, unknown> = {};
const tabs = new Map<number, { openerTabId?: number; cookieStoreId?: string }>();
(globalThis as { chrome?: unknown }).chrome = {
  storage: { session: { set: (values: object) => Promise.resolve(void Object.assign(kept, values)), get: () => Promise.resolve(kept) } },
  tabs: { get: (id: number) => (tabs.has(id) ? Promise.resolve(tabs.get(id)) : Promise.reject(new Error("no such tab"))) },
};
const { Attribution } = await import("../src/background/attribution");

const begin = (visitId: number) => create(RelayStartSchema, {
  visitId: BigInt(visitId), token: `t${visitId}`, network: { http: true, saveContent: ["script"], maxBodyBytes: 5n },
});

const made = () => {
  const attribution = new Attribution(() => undefined);
  const open = (visitId: number, tabId: number, store: string) => {
    const visit = attribution.start(begin(visitId));
    assert.ok(attribution.token(tabId, `about:blank#visit=t${visitId}`));
    attribution.container(visit, store);
    return visit;
  };
  return { attribution, open };
};

/** M05 */
test("what is in no tab belongs to the visit whose container it is in", () => {
  const { attribution, open } = made();
  const [one, two] = [open(1, 11, "c1"), open(2, 12, "c2")];
  assert.deepEqual(attribution.ownerOfRequest(-1, "c1"), { visit: one });
  assert.deepEqual(attribution.ownerOfRequest(-1, "c2"), { visit: two });
  assert.deepEqual(attribution.ownerOfRequest(11, "c1"), { visit: one });
  // A popup that nobody has told of yet.
  assert.deepEqual(attribution.ownerOfRequest(99, "c2"), { visit: two });
  assert.deepEqual(attribution.ownerOfRequest(-1, "c9"), { reason: "store_unknown" });
  assert.equal(attribution.ownerOfRequest(99, "c9"), undefined);
  assert.ok(one.network?.savesContent("script") === true && !one.network.savesContent("image"));
});

/** M05: late records are never given to the next visit. */
test("what is late belongs to none, though the next visit has the same container", () => {
  const { attribution, open } = made();
  open(1, 11, "c1");
  attribution.end(1);
  assert.deepEqual(attribution.ownerOfRequest(-1, "c1"), { reason: "visit_ended" });
  assert.deepEqual(attribution.ownerOfRequest(11, "c1"), { reason: "visit_ended" });
  const next = open(2, 12, "c1");
  assert.deepEqual(attribution.ownerOfRequest(12, "c1"), { visit: next });
  assert.deepEqual(attribution.ownerOfRequest(-1, "c1"), { reason: "store_shared" });
  assert.deepEqual(attribution.ownerOfStore("c1"), { reason: "store_shared" });
});

test("a tab without an opener is adopted by its container; a restarted background knows both again", async () => {
  const { attribution, open } = made();
  open(1, 11, "c1");
  tabs.set(50, { cookieStoreId: "c1" });
  await attribution.settle(50);
  assert.ok(attribution.knows(50));
  const again = new Attribution(() => undefined);
  await again.restore();
  const visit = again.start(begin(1));
  assert.deepEqual(again.ownerOfRequest(50, undefined), { visit });
  assert.deepEqual(again.ownerOfRequest(-1, "c1"), { visit });
});
