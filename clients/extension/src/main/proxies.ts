// What is recorded when a native is used, whatever stands in its place.
import {
  CALL, CALL_STACK, COOKIE_STORE_DELETE, COOKIE_STORE_SET, COOKIE_STRING, GET, GET_FAILED, GET_FUNCTION, NOT_A_ROW, SET,
  SET_FAILED, SET_PREVENTED, TAMPERED,
} from "../batch";
import { state } from "./callsite";
import { wishFor } from "./plan";
import type { Plan, Wish } from "./plan";
import type { Apply, Construct, Native, Primitive } from "./primitive";
import { prototypeOf, reflectApply, reflectConstruct } from "./primordials";
import { cut, serializeArguments, serializeValue } from "./serialize";
import type { Recorded, Shared } from "./shared";

const flagsAt = (flags: number): number => {
  const all = state.tampered ? flags | TAMPERED : flags;
  state.tampered = false;
  return all;
};

const stackFor = (primitive: Primitive, flags: number, trap: unknown): string | null =>
  (flags & NOT_A_ROW) !== 0 ? null : primitive.callSite(trap, (flags & CALL_STACK) !== 0);

/** A read or write with its value; the place of the record, -1 when it was one too many. */
export const recordValue = (
  shared: Shared, realm: Recorded, wish: Wish, operation: number, trap: unknown, value: unknown,
): number => {
  const { sink } = realm;
  if ((wish.flags & NOT_A_ROW) === 0 && !sink.admits(wish.symbol, shared.limit)) return -1;
  const stack = stackFor(realm.primitive, wish.flags, trap);
  const flags = flagsAt(wish.flags);
  const text = serializeValue(value, wish.functionSource);
  return sink.record(wish.symbol, operation, flags, stack, text, null, cut.units);
};

/** A call with its arguments. */
export const recordCall = (shared: Shared, realm: Recorded, wish: Wish, operation: number, trap: unknown, args: unknown[]): void => {
  const { sink } = realm;
  if ((wish.flags & NOT_A_ROW) === 0 && !sink.admits(wish.symbol, shared.limit)) return;
  const stack = stackFor(realm.primitive, wish.flags, trap);
  const flags = flagsAt(wish.flags);
  const text = serializeArguments(args, wish.functionSource);
  sink.record(wish.symbol, operation, flags, stack, null, text, cut.units);
};

/** Records before the native runs: when recording fails, at the end of the stack, so does the call. */
export const method = (shared: Shared, realm: Recorded, native: Native, plan: Plan, operation = CALL): Native => {
  const apply: Apply = (target, self, args) => {
    const wish = wishFor(shared, plan, self);
    if (wish !== null) recordCall(shared, realm, wish, operation, apply, args);
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      throw realm.primitive.thrown(error, apply);
    }
  };
  const construct: Construct = (target, args, newTarget) => {
    const wish = plan.only ?? (plan.wishes[0] as Wish);
    recordCall(shared, realm, wish, operation, construct, args);
    try {
      return reflectConstruct(target, args, newTarget === (proxy as unknown) ? target : (newTarget as Native)) as object;
    } catch (error) {
      throw realm.primitive.thrown(error, construct);
    }
  };
  const proxy = realm.primitive.wrap(realm, native, apply, construct);
  return proxy;
};

/** Records after the native ran, which has no effect, and before the page has its value. */
export const getter = (shared: Shared, realm: Recorded, native: Native, plan: Plan): Native => {
  const apply: Apply = (target, self, args) => {
    const wish = wishFor(shared, plan, self);
    let value: unknown;
    try {
      value = reflectApply(target, self, args);
    } catch (error) {
      if (wish !== null) recordValue(shared, realm, wish, GET_FAILED, apply, undefined);
      throw realm.primitive.thrown(error, apply);
    }
    if (wish !== null) {
      if (typeof value === "function") {
        if (wish.functionGets) recordValue(shared, realm, wish, GET_FUNCTION, apply, value);
      } else if (!wish.below || typeof value !== "object" || value === null) {
        recordValue(shared, realm, wish, GET, apply, value);
      }
    }
    return value;
  };
  return realm.primitive.wrap(realm, native, apply);
};

/** Whether an accessor holds a function or an object now. */
const holds = (read: Native | undefined, self: unknown): boolean => {
  if (read === undefined) return false;
  try {
    const value = reflectApply(read, self, []);
    return typeof value === "function" || (typeof value === "object" && value !== null);
  } catch {
    return false;
  }
};

/** Without asking Array.prototype where there is none. */
const first = (args: unknown[]): unknown => (args.length === 0 ? undefined : args[0]);

/** Records before the native runs; becomes set(failed) when it throws and the record is still here. */
export const setter = (shared: Shared, realm: Recorded, native: Native, plan: Plan, read?: Native, operation = SET): Native => {
  const apply: Apply = (target, self, args) => {
    const wish = wishFor(shared, plan, self);
    const { sink } = realm;
    let place = -1;
    if (wish !== null) {
      if (wish.preventSets && holds(read, self)) {
        recordValue(shared, realm, wish, SET_PREVENTED, apply, first(args));
        return undefined;
      }
      place = recordValue(shared, realm, wish, operation, apply, first(args));
    }
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      if (place >= 0) sink.amend(place, SET_FAILED);
      throw realm.primitive.thrown(error, apply);
    }
  };
  return realm.primitive.wrap(realm, native, apply);
};

/** Runs `after` with the result, and records nothing. */
export const observed = (realm: Recorded, native: Native, after: (result: unknown, self: unknown) => void): Native => {
  const apply: Apply = (target, self, args) => {
    let result: unknown;
    try {
      result = reflectApply(target, self, args);
    } catch (error) {
      throw realm.primitive.thrown(error, apply);
    }
    after(result, self);
    return result;
  };
  return realm.primitive.pass(realm, native, apply);
};

/** Function.prototype.toString of a realm, telling the native behind every proxy of the agent. */
export const toStringProxy = (shared: Shared, realm: Recorded, native: Native): Native => {
  const apply: Apply = (target, self, args) => {
    const behind = typeof self === "function" ? shared.originals.get(self) : undefined;
    try {
      return reflectApply(target, behind ?? self, args);
    } catch (error) {
      throw realm.primitive.thrown(error, apply);
    }
  };
  return realm.primitive.wrap(realm, native, apply);
};

/** Whether giving a function of ours this prototype would close a circle. */
const closes = (target: object, proto: object | null): boolean => {
  for (let at = proto; at !== null; at = prototypeOf(at) as object | null) if (at === target) return true;
  return false;
};

/** Reflect.setPrototypeOf of a realm: false for a circle through a proxy of ours, where the trap could only throw. */
export const setPrototypeOfProxy = (shared: Shared, realm: Recorded, native: Native): Native => {
  const apply: Apply = (target, self, args) => {
    const object = first(args);
    if (typeof object === "function" && shared.originals.get(object) !== undefined && args.length > 1) {
      const proto = args[1];
      if (typeof proto === "object" && proto !== null && closes(object, proto)) return false;
    }
    try {
      return reflectApply(target, self, args);
    } catch (error) {
      throw realm.primitive.thrown(error, apply);
    }
  };
  return realm.primitive.wrap(realm, native, apply);
};

const cookiePlan = (owner: object, symbol: string, property: string): Plan => {
  const wish: Wish = {
    name: "", symbol, flags: NOT_A_ROW, functionSource: false, functionGets: false, preventSets: false, below: false,
    everywhere: true, named: false,
  };
  return { owner, property, wishes: [wish], only: wish };
};

/** `cookieStore.set` and `delete`: rows of the cookie table. */
export const cookieStoreMethod = (shared: Shared, realm: Recorded, native: Native, property: "set" | "delete"): Native => {
  const plan = cookiePlan(realm.global, `CookieStore.${property}`, property);
  return method(shared, realm, native, plan, property === "set" ? COOKIE_STORE_SET : COOKIE_STORE_DELETE);
};

/** What is written to `document.cookie`: rows of the cookie table. */
export const cookieSetter = (shared: Shared, realm: Recorded, native: Native): Native =>
  setter(shared, realm, native, cookiePlan(realm.global, "window.document.cookie", "cookie"), undefined, COOKIE_STRING);
