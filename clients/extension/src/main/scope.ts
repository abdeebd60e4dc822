// A worker's realm: its hooks, and where their records wait. Workers have no isolated world, and no extension in it.
import { NOT_A_ROW } from "../batch";
import type { Target } from "../config";
import { install, noConstructors, settleConstructors } from "./install";
import { Planner } from "./plan";
import type { Plan } from "./plan";
import {
  descriptorOf, hasOwn, isWellFormed, microtask, prototypeOf, reflectApply, reflectDefine, safeWeakMap, slice, stringify,
} from "./primordials";
import type { Apply, Native } from "./primitive";
import { toStringProxy } from "./proxies";
import { emptyRaw, encode, microseconds } from "./raw";
import { Shared, put } from "./shared";
import type { RecordSink, Recorded } from "./shared";
import { Uses } from "./uses";
import { wrapped } from "./wrapped";

/** A message out of a worker costs as much as ten records. */
const BATCH = 256;
const BATCH_UNITS = 1024 * 1024;

/** A lone surrogate has no UTF-8: it is written as JSON writes it, as the background does for documents. */
const plain = (text: string | null): string | null => {
  if (text === null || isWellFormed(text)) return text;
  let out = "";
  for (let i = 0; i < text.length; i++) {
    const unit = slice(text, i, i + 1);
    const pair = slice(text, i, i + 2);
    if (isWellFormed(unit)) out += unit;
    else if (pair.length === 2 && isWellFormed(pair)) {
      out += pair;
      i++;
    } else out += slice(stringify(unit), 1, -1);
  }
  return out;
};

/** Takes a batch, with the numbers of its records and of those that are rows of calls. */
export type Send = (text: string, records: number, calls: number) => void;

/** Hands records over at the end of each task, or sooner when there are many: a worker may be ended at any moment. */
export class ScopeSink implements RecordSink {
  readonly #send: Send;
  readonly #uses = new Uses();
  #raw = emptyRaw();
  #count = 0;
  #calls = 0;
  #units = 0;
  #first = 0;
  #dropped = 0;
  #scheduled = false;

  constructor(send: Send) {
    this.#send = send;
  }

  admits(symbol: string, limit: number): boolean {
    if (this.#uses.admit(symbol, limit)) return true;
    this.#schedule();
    return false;
  }

  record(
    symbol: string, operation: number, flags: number, stack: string | null, value: string | null, args: string | null,
    cut: number,
  ): number {
    const raw = this.#raw;
    const at = this.#count;
    raw.symbols[at] = plain(symbol) ?? "";
    raw.operations[at] = operation;
    raw.flags[at] = flags;
    raw.times[at] = microseconds();
    raw.stacks[at] = plain(stack);
    raw.values[at] = plain(value);
    raw.args[at] = plain(args);
    raw.cuts[at] = cut;
    this.#units += (value === null ? 0 : value.length) + (args === null ? 0 : args.length);
    this.#count = at + 1;
    if ((flags & NOT_A_ROW) === 0) this.#calls++;
    const place = this.#first + at;
    if (this.#count >= BATCH || this.#units >= BATCH_UNITS) this.#flush();
    else this.#schedule();
    return place;
  }

  amend(place: number, operation: number): void {
    const at = place - this.#first;
    if (at >= 0 && at < this.#count) this.#raw.operations[at] = operation;
  }

  /** So many records found no room: the next batch says it. */
  dropped(records: number): void {
    this.#dropped += records;
  }

  /** Hands over all that there is. */
  flush(): void {
    this.#uses.report(this);
    this.#flush();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void microtask(this.#onMicrotask);
  }

  readonly #onMicrotask = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  #flush(): void {
    const count = this.#count;
    if (count === 0) return;
    const text = encode(this.#raw, count, this.#dropped);
    const calls = this.#calls;
    this.#raw = emptyRaw();
    this.#first += count;
    this.#count = 0;
    this.#calls = 0;
    this.#units = 0;
    this.#dropped = 0;
    this.#send(text, count, calls);
  }
}

/** A method of the worker's own global; `during` does what it does. */
const replace = (realm: Recorded<ScopeSink>, name: string, during: Apply): void => {
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
const endWell = (realm: Recorded<ScopeSink>): void => {
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
  readonly sink: ScopeSink;
  /** Records cannot leave a worker once it has ended. */
  readonly ends: boolean;
}

/** Hooks what there is of the targets; the function hooks what there is more by the time it is called. */
export const hookScope = ({ targets, limit, sink, ends }: Scope): (() => void) => {
  const shared = new Shared("", limit);
  const realm: Recorded<ScopeSink> = { sink, global: globalThis, primitive: wrapped(shared.originals), before: null };
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
