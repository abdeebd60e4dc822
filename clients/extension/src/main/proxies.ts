// Proxies around natives. A Proxy keeps name, length, own keys, descriptors, constructibility and identity of what it
// wraps; what is left to do is Function.prototype.toString, error stacks and the prototype cycle check.
import {
  CALL, CALL_STACK, COOKIE_STORE_DELETE, COOKIE_STORE_SET, GET, GET_FAILED, NOT_A_ROW, SET, SET_FAILED, TAMPERED,
} from "../batch";
import { callSite, state, withoutOurFrames } from "./callsite";
import { ProxyOf, TypeErrorOf, captureStackTrace, objectCreate, prototypeOf, reflectApply, setPrototypeOf } from "./primordials";
import { cut, serializeArguments, serializeValue } from "./serialize";
import type { Realm, Shared } from "./shared";

type Native = (this: unknown, ...args: unknown[]) => unknown;
type Apply = (target: Native, self: unknown, args: unknown[]) => unknown;

/** What to record of one property. */
export interface Plan {
  /** Null: named by the interface of the receiver, and not recorded for other receivers. */
  readonly symbol: string | null;
  readonly property: string;
  readonly flags: number;
  readonly functionSource: boolean;
}

export const proxied = (shared: Shared, native: Native, apply: Apply): Native => {
  const handler = {
    __proto__: null,
    apply,
    setPrototypeOf: (target: object, proto: object | null): boolean => {
      for (let at = proto; at !== null; at = prototypeOf(at) as object | null) {
        if (at === proxy) throw cyclic(target, handler.setPrototypeOf);
      }
      setPrototypeOf(target, proto);
      return true;
    },
  };
  const proxy = new ProxyOf(native, handler as unknown as ProxyHandler<Native>);
  shared.originals.set(proxy, native);
  return proxy;
};

/** The error that V8 throws for a prototype cycle. */
const cyclic = (target: object, trap: unknown): unknown => {
  try {
    setPrototypeOf(target, objectCreate(target));
  } catch (error) {
    captureStackTrace?.(error as object, trap);
    return error;
  }
  return new TypeErrorOf("Cyclic __proto__ value");
};

const symbolFor = (shared: Shared, plan: Plan, self: unknown): string | null => {
  if (plan.symbol !== null) return plan.symbol;
  if (typeof self !== "object" || self === null) return null;
  let proto = prototypeOf(self) as object | null;
  for (let hops = 0; proto !== null && hops < 12; hops++) {
    const name = shared.names.get(proto);
    if (name !== undefined) return `${name}.${plan.property}`;
    proto = prototypeOf(proto) as object | null;
  }
  return null;
};

const flagsAt = (plan: Plan): number => {
  const flags = state.tampered ? plan.flags | TAMPERED : plan.flags;
  state.tampered = false;
  return flags;
};

const stackFor = (plan: Plan, trap: unknown): string | null => callSite(trap, (plan.flags & CALL_STACK) !== 0);

/** Records before the native runs: when recording fails, at the end of the stack, so does the call. */
export const method = (shared: Shared, realm: Realm, native: Native, plan: Plan, operation = CALL): Native => {
  const apply: Apply = (target, self, args) => {
    const symbol = symbolFor(shared, plan, self);
    if (symbol !== null) {
      const stack = stackFor(plan, apply);
      const flags = flagsAt(plan);
      const text = serializeArguments(args, plan.functionSource);
      realm.sink.record(symbol, operation, flags, stack, null, text, cut.units);
    }
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      throw withoutOurFrames(error, apply);
    }
  };
  return proxied(shared, native, apply);
};

/** Records after the native ran, which has no effect, and before the page has its value. */
export const getter = (shared: Shared, realm: Realm, native: Native, plan: Plan): Native => {
  const apply: Apply = (target, self, args) => {
    const symbol = symbolFor(shared, plan, self);
    let value: unknown;
    try {
      value = reflectApply(target, self, args);
    } catch (error) {
      if (symbol !== null) realm.sink.record(symbol, GET_FAILED, flagsAt(plan), stackFor(plan, apply), null, null, 0);
      throw withoutOurFrames(error, apply);
    }
    if (symbol !== null) {
      const stack = stackFor(plan, apply);
      const text = serializeValue(value, plan.functionSource);
      realm.sink.record(symbol, GET, flagsAt(plan), stack, text, null, cut.units);
    }
    return value;
  };
  return proxied(shared, native, apply);
};

/** Records before the native runs; becomes set(failed) when it throws and the record is still here. */
export const setter = (shared: Shared, realm: Realm, native: Native, plan: Plan): Native => {
  const apply: Apply = (target, self, args) => {
    const symbol = symbolFor(shared, plan, self);
    let place = -1;
    const sink = realm.sink;
    if (symbol !== null) {
      const stack = stackFor(plan, apply);
      const flags = flagsAt(plan);
      const text = args.length === 0 ? null : serializeValue(args[0], plan.functionSource);
      place = sink.record(symbol, SET, flags, stack, text, null, cut.units);
    }
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      if (place >= 0) sink.amend(place, SET_FAILED);
      throw withoutOurFrames(error, apply);
    }
  };
  return proxied(shared, native, apply);
};

/** Runs `after` with the result, and records nothing. */
export const observed = (shared: Shared, native: Native, after: (result: unknown, self: unknown) => void): Native => {
  const apply: Apply = (target, self, args) => {
    let result: unknown;
    try {
      result = reflectApply(target, self, args);
    } catch (error) {
      throw withoutOurFrames(error, apply);
    }
    after(result, self);
    return result;
  };
  return proxied(shared, native, apply);
};

/** Function.prototype.toString of a realm, telling the native behind every proxy of the agent. */
export const toStringProxy = (shared: Shared, native: Native): Native => {
  const apply: Apply = (target, self, args) => {
    const behind = typeof self === "function" ? shared.originals.get(self) : undefined;
    try {
      return reflectApply(target, behind ?? self, args);
    } catch (error) {
      throw withoutOurFrames(error, apply);
    }
  };
  return proxied(shared, native, apply);
};

/** `cookieStore.set` and `delete`: no rows of their own, but rows of the cookie table. */
export const cookieStoreMethod = (shared: Shared, realm: Realm, native: Native, property: "set" | "delete"): Native => {
  const plan = { symbol: `CookieStore.${property}`, property, flags: NOT_A_ROW, functionSource: false };
  return method(shared, realm, native, plan, property === "set" ? COOKIE_STORE_SET : COOKIE_STORE_DELETE);
};
