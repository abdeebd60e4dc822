// A worker's world. The browser-service runs this in every worker before the worker's first statement, with a function
// of its own that takes text out; workers have no isolated world and no extension.
import { INLINED } from "../config";
import type { WorkerConfig } from "../config";
import { install, noConstructors, settleConstructors } from "./install";
import { Planner } from "./plan";
import type { Plan } from "./plan";
import {
  MessageChannelOf, descriptorOf, hasOwn, port1Of, port2Of, postMessage, reflectDefine, safeWeakMap, setOnMessage,
} from "./primordials";
import type { Native } from "./primitive";
import { toStringProxy } from "./proxies";
import { Shared } from "./shared";
import { TaskSink } from "./tasks";
import { wrapped } from "./wrapped";

const start = ({ targets, limit, binding }: WorkerConfig): void => {
  const holder = globalThis as unknown as Record<string, (text: string) => void>;
  const send = holder[binding] as (text: string) => void;
  delete holder[binding];
  const shared = new Shared("", limit);
  const realm = { sink: new TaskSink(send, false), global: globalThis, primitive: wrapped(shared.originals), before: null };
  const prototype = Function.prototype;
  const toString = descriptorOf(prototype, "toString");
  if (toString !== undefined && hasOwn(toString, "value")) {
    reflectDefine(prototype, "toString", {
      __proto__: null, value: toStringProxy(shared, realm, toString.value as Native), writable: true, enumerable: false, configurable: true,
    } as PropertyDescriptor);
  }
  const known = safeWeakMap<object, boolean>();
  const instrument = (): void => {
    const { plans } = new Planner(shared, globalThis).plan(targets);
    const constructors = noConstructors();
    for (let i = 0; i < plans.length; i++) {
      const plan = plans[i] as Plan;
      if (known.get(plan.owner) === undefined) install(shared, realm, plan, constructors, false);
    }
    for (let i = 0; i < plans.length; i++) known.set((plans[i] as Plan).owner, true);
    settleConstructors(realm, constructors);
  };
  instrument();
  // Chromium adds some interfaces (GPU, StorageManager, ...) only when the worker's script is about to run, and there is
  // no place to stand between the two: their members are hooked with the first task after that script.
  const later = new MessageChannelOf();
  setOnMessage(port2Of(later), () => {
    setOnMessage(port2Of(later), null);
    instrument();
  });
  postMessage(port1Of(later), 0);
  // Says that it is there.
  send("");
};

start(JSON.parse(INLINED) as WorkerConfig);
