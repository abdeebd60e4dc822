// The hooks of a worker's realm. Workers have no isolated world, and no extension in it.
import type { Target } from "../config";
import { install, noConstructors, settleConstructors } from "./install";
import { Planner } from "./plan";
import type { Plan } from "./plan";
import { descriptorOf, hasOwn, microtask, prototypeOf, reflectApply, reflectDefine, safeWeakMap } from "./primordials";
import type { Apply, Native } from "./primitive";
import { toStringProxy } from "./proxies";
import { Shared, put } from "./shared";
import type { Recorded } from "./shared";
import type { TaskSink } from "./tasks";
import { wrapped } from "./wrapped";

/** A method of the worker's own global; `during` does what it does. */
const replace = (realm: Recorded<TaskSink>, name: string, during: Apply): void => {
  let owner: object | null = globalThis;
  while (owner !== null && !hasOwn(owner, name)) owner = prototypeOf(owner) as object | null;
  const descriptor = owner === null ? undefined : descriptorOf(owner, name);
  if (owner === null || descriptor === undefined || !hasOwn(descriptor, "value")) return;
  const { writable, enumerable } = descriptor;
  const value = realm.primitive.pass(realm, descriptor.value as Native, during);
  put(realm, owner, name, descriptor, { __proto__: null, value, writable, enumerable, configurable: true } as PropertyDescriptor);
};

/**
 * What a worker has recorded leaves before a message by which the page could learn that it may be terminated; and before
 * it closes itself, which is done at the end of the running job, as nothing leaves it afterwards.
 */
const endWell = (realm: Recorded<TaskSink>): void => {
  const post: Apply = (target, self, args) => {
    realm.sink.flush();
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      throw realm.primitive.thrown(error, post);
    }
  };
  const close: Apply = (target, self, args) => {
    if (self !== undefined && self !== null && self !== globalThis) return reflectApply(target, self, args);
    void microtask(() => {
      realm.sink.flush();
      reflectApply(target, globalThis, []);
    });
    return undefined;
  };
  replace(realm, "postMessage", post);
  replace(realm, "close", close);
};

export interface Scope {
  readonly targets: readonly Target[];
  readonly limit: number;
  readonly sink: TaskSink;
  /** Records cannot leave a worker once it has ended. */
  readonly ends: boolean;
}

/** Hooks what there is of the targets; the function hooks what there is more by the time it is called. */
export const hookScope = ({ targets, limit, sink, ends }: Scope): (() => void) => {
  const shared = new Shared("", limit);
  const realm: Recorded<TaskSink> = { sink, global: globalThis, primitive: wrapped(shared.originals), before: null };
  if (ends) endWell(realm);
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
  return instrument;
};
