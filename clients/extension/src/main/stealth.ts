// A page's world in which nothing is replaced: the engine stops at the functions themselves and asks whether to go on,
// and what is asked records the call. The browser-service (engine/chromium/stealth) evaluates this at the start of each
// document, as the value of a name that only it knows, and has each breakpoint's condition call `hit`.
import { CALL, GET, GET_FAILED, MISSING, NOT_A_ROW, NOT_INSTRUMENTED, SET } from "../batch";
import { INLINED } from "../config";
import type { StealthConfig, Target } from "../config";
import { callSite } from "./callsite";
import { Planner, wishFor } from "./plan";
import type { Plan, Wish } from "./plan";
import type { Native } from "./primitive";
import { descriptorOf, hasOwn, indexOf, objectCreate, reflectApply, safeMap, slice } from "./primordials";
import { recordCall, recordValue } from "./proxies";
import { looks } from "./serialize";
import { Shared } from "./shared";
import { TaskSink } from "./tasks";
import { wrapped } from "./wrapped";

/** Given the recorder of this realm. */
declare const SONDE_GIVE: (recorder: object) => void;

interface Entry {
  readonly plan: Plan;
  readonly native: Native;
  readonly operation: number;
}

/** Times that a document waits to be connected: resuming one that waits for its debugger ends a pause, too. */
const WAITS = 4;

const { targets, limit, most } = JSON.parse(INLINED) as StealthConfig;
looks.blind = true;
const shared = new Shared("", limit);
const sink = new TaskSink(null, window.parent !== window);
/** The condition of the breakpoint is a frame of its own: the first. */
const withoutCondition = (trap: unknown, long: boolean): string | null => {
  const stack = callSite(trap, long);
  if (stack === null) return null;
  const first = indexOf(stack, "\n    at ");
  const second = first < 0 ? -1 : indexOf(stack, "\n    at ", first + 1);
  return second < 0 ? "" : slice(stack, 0, first) + slice(stack, second, stack.length);
};
const realm = {
  sink, global: globalThis, primitive: { ...wrapped(shared.originals), callSite: withoutCondition }, before: null,
};
const entries = safeMap<string, Entry>();
/** By key, for the browser-service to put its breakpoints on. */
const functions = objectCreate(null) as Record<string, unknown>;
/** Natives that hardly any page calls. */
const spares: unknown[] = [
  "anchor", "big", "blink", "bold", "fixed", "fontcolor", "fontsize", "italics", "link", "small", "strike", "sub", "sup",
].map((name) => (String.prototype as unknown as Record<string, unknown>)[name]);
let count = 0;
let session = 0;
let waited = false;

const add = (plan: Plan, native: unknown, operation: number, word: string): boolean => {
  if (typeof native !== "function") return false;
  const key = `${(plan.wishes[0] as Wish).symbol} ${word}`;
  if (entries.get(key) !== undefined) return true;
  if (count >= most) return false;
  count++;
  entries.set(key, { plan, native: native as Native, operation });
  functions[key] = native;
  return true;
};

/** Whether the uses of the property can be seen: those of functions. */
const plan = (of: Plan): boolean => {
  const descriptor = descriptorOf(of.owner, of.property);
  if (descriptor === undefined) return false;
  if (hasOwn(descriptor, "value")) return add(of, descriptor.value, CALL, "call");
  const { get, set } = descriptor;
  let seen = true;
  if (get !== undefined) seen = add(of, get, GET, "get");
  if (set !== undefined) seen = add(of, set, SET, "set") && seen;
  return seen;
};

const planned = new Planner(shared, globalThis).plan(targets);
for (let i = 0; i < planned.plans.length; i++) {
  const of = planned.plans[i] as Plan;
  if (!plan(of)) sink.record((of.wishes[0] as Wish).symbol, NOT_INSTRUMENTED, NOT_A_ROW, null, count >= most ? "stealth_cap" : "stealth_value", null, 0);
}
for (let i = 0; i < planned.missing.length; i++) {
  const { object, required } = planned.missing[i] as Target;
  if (required) sink.record(object, MISSING, NOT_A_ROW, null, null, null, 0);
}

const record = ({ plan: of, native, operation }: Entry, self: unknown, args: unknown[]): void => {
  if (operation === CALL) {
    // Of a constructor there is no receiver yet.
    const wish = wishFor(shared, of, self) ?? (hasOwn(native, "prototype") ? (of.wishes[0] as Wish) : null);
    if (wish !== null) recordCall(shared, realm, wish, CALL, hit, args);
    return;
  }
  const wish = wishFor(shared, of, self);
  if (wish === null) return;
  if (operation === SET) {
    recordValue(shared, realm, wish, SET, hit, args.length === 0 ? undefined : args[0]);
    return;
  }
  let value: unknown;
  try {
    // The breakpoint does not stop at what its own condition calls.
    value = reflectApply(native, self, []);
  } catch {
    recordValue(shared, realm, wish, GET_FAILED, hit, undefined);
    return;
  }
  if (typeof value === "function") return;
  if (!wish.below || typeof value !== "object" || value === null) recordValue(shared, realm, wish, GET, hit, value);
};

/**
 * Never stops the engine. `of`: the number of the session whose breakpoint it is; documents of two sessions may be of
 * one process, where each meets the breakpoints of both.
 */
const hit = (of: number, key: string, self: unknown, args: unknown[]): boolean => {
  if (session !== 0 && of !== session) return false;
  const entry = entries.get(key);
  // A function that this realm has and did not plan: of a target that it lacks.
  if (entry !== undefined) record(entry, self, args);
  return false;
};

SONDE_GIVE({
  __proto__: null,
  hit,
  functions: (): object => functions,
  /** One whose breakpoint is no one's. */
  spare: (turn: number): unknown => spares[turn % spares.length],
  /** Records leave by the function of this name from here on. Whether scripts may have run before. */
  connect: (of: number, name: string): boolean => {
    const holder = globalThis as unknown as Record<string, (text: string) => void>;
    const send = holder[name] as (text: string) => void;
    delete holder[name];
    session = of;
    // The browser's function takes one argument, and no more.
    sink.connect((text) => send(text));
    return waited;
  },
  /** The first document of a popup must not wait: what opened it would hang with it. */
  wait: (): void => {
    const opened = window.opener !== null && location.href === "about:blank";
    for (let i = 0; !opened && i < WAITS && session === 0; i++) debugger;
    waited = true;
  },
});
