// A worker's world. The browser-service runs this in every worker before the worker's first statement, with a function
// of its own that takes text out; workers have no isolated world and no extension.
import { INLINED } from "../config";
import type { WorkerConfig } from "../config";
import { install, noConstructors, settleConstructors } from "./install";
import { Planner } from "./plan";
import type { Plan } from "./plan";
import {
  MessageChannelOf, descriptorOf, hasOwn, isWellFormed, microtask, port1Of, port2Of, postMessage, reflectDefine,
  safeWeakMap, setOnMessage, slice, stringify,
} from "./primordials";
import type { Native } from "./primitive";
import { toStringProxy } from "./proxies";
import { emptyRaw, encode, microseconds } from "./raw";
import { Shared } from "./shared";
import type { RecordSink } from "./shared";
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

/** Hands records over at the end of each task, or sooner when there are many: a worker may be ended at any moment. */
class WorkerSink implements RecordSink {
  readonly #send: (text: string) => void;
  readonly #uses = new Uses();
  #raw = emptyRaw();
  #count = 0;
  #units = 0;
  #first = 0;
  #scheduled = false;

  constructor(send: (text: string) => void) {
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
    const place = this.#first + at;
    if (this.#count >= BATCH || this.#units >= BATCH_UNITS) this.#flush();
    else this.#schedule();
    return place;
  }

  amend(place: number, operation: number): void {
    const at = place - this.#first;
    if (at >= 0 && at < this.#count) this.#raw.operations[at] = operation;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void microtask(this.#onMicrotask);
  }

  readonly #onMicrotask = (): void => {
    this.#scheduled = false;
    this.#uses.report(this);
    this.#flush();
  };

  #flush(): void {
    const count = this.#count;
    if (count === 0) return;
    const text = encode(this.#raw, count, 0);
    this.#raw = emptyRaw();
    this.#first += count;
    this.#count = 0;
    this.#units = 0;
    this.#send(text);
  }
}

const start = ({ targets, limit, binding }: WorkerConfig): void => {
  const holder = globalThis as unknown as Record<string, (text: string) => void>;
  const send = holder[binding] as (text: string) => void;
  delete holder[binding];
  const shared = new Shared("", limit);
  const realm = { sink: new WorkerSink(send), global: globalThis, primitive: wrapped(shared.originals), before: null };
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
