// Puts the proxies of a plan in the place of its property.
import { GET, GET_FUNCTION, SET, SET_PREVENTED } from "../batch";
import {
  dataOf, descriptorOf, hasOwn, prototypeOf, reflectDefine, reflectOwnKeys, safeList, safeMap, safeWeakMap, setPrototypeOf,
} from "./primordials";
import { wishFor } from "./plan";
import type { Plan } from "./plan";
import type { Native } from "./primitive";
import { getter, method, recordValue, setter } from "./proxies";
import { put } from "./shared";
import type { Recorded, Shared } from "./shared";

/** A function that carries a `prototype` is known by its identity in more places than one. */
export interface Constructors {
  readonly proxies: Map<object, Native>;
  readonly natives: object[];
}

export const noConstructors = (): Constructors => ({ proxies: safeMap<object, Native>(), natives: safeList<object>() });

/**
 * Whether it could be done. `exact` is for the page's own objects: every property becomes an accessor, so that reads
 * and writes of methods are seen; on natives that would show.
 */
export const install = (
  shared: Shared, realm: Recorded, plan: Plan, constructors: Constructors, exact: boolean,
): boolean => {
  const { owner, property } = plan;
  const descriptor = descriptorOf(owner, property);
  if (descriptor === undefined) return asAccessor(shared, realm, plan, undefined, undefined, true);
  if (descriptor.configurable !== true || unwrappable(realm, owner, property)) return false;
  if (!hasOwn(descriptor, "value")) return onAccessor(shared, realm, plan, descriptor);
  const { value } = descriptor as { value: unknown };
  const writable = descriptor.writable === true;
  if (typeof value !== "function" || exact || observesReads(plan)) {
    return asAccessor(shared, realm, plan, descriptor, value, writable);
  }
  const proxy = method(shared, realm, value as Native, plan);
  if (hasOwn(value, "prototype")) {
    constructors.proxies.set(value, proxy);
    constructors.natives[constructors.natives.length] = value;
  }
  return put(realm, owner, property, descriptor, {
    __proto__: null, value: proxy, writable, enumerable: descriptor.enumerable === true, configurable: true,
  } as PropertyDescriptor);
};

// A wrapped eval is an indirect one, a wrapped postMessage takes its caller for the source of the message, and a
// constructor is known by its identity: pages would break.
const unwrappable = (realm: Recorded, owner: object, property: string): boolean =>
  property === "constructor" || (owner === realm.global && (property === "eval" || property === "postMessage"));

const observesReads = ({ wishes }: Plan): boolean => {
  for (let i = 0; i < wishes.length; i++) {
    const wish = wishes[i] as Plan["wishes"][number];
    if (wish.functionGets || wish.preventSets) return true;
  }
  return false;
};

const onAccessor = (shared: Shared, realm: Recorded, plan: Plan, descriptor: PropertyDescriptor): boolean => {
  const { get, set } = descriptor as { get: Native | undefined; set: Native | undefined };
  return put(realm, plan.owner, plan.property, descriptor, {
    __proto__: null,
    get: get === undefined ? undefined : getter(shared, realm, get, plan),
    set: set === undefined ? undefined : setter(shared, realm, set, plan, get),
    enumerable: descriptor.enumerable === true, configurable: true,
  } as PropertyDescriptor);
};

const isHeld = (value: unknown): boolean =>
  typeof value === "function" || (typeof value === "object" && value !== null);

const asAccessor = (
  shared: Shared, realm: Recorded, plan: Plan, was: PropertyDescriptor | undefined, first: unknown, writable: boolean,
): boolean => {
  const { owner, property } = plan;
  const proxies = safeWeakMap<object, Native>();
  let current = first;
  const shown = (): unknown => {
    if (typeof current !== "function") return current;
    const known = proxies.get(current);
    if (known !== undefined) return known;
    const proxy = method(shared, realm, current as Native, plan);
    proxies.set(current, proxy);
    return proxy;
  };
  const { get: reading, set: writing } = realm.primitive.accessors(realm, property, (self) => {
    const wish = wishFor(shared, plan, self);
    const value = current;
    if (wish !== null) {
      if (typeof value !== "function") {
        if (!wish.below || !isHeld(value)) recordValue(shared, realm, wish, GET, reading, value);
      } else if (wish.functionGets) {
        recordValue(shared, realm, wish, GET_FUNCTION, reading, value);
      }
    }
    return shown();
  }, (self, given) => {
    const wish = wishFor(shared, plan, self);
    const value = typeof given === "function" && given === shown() ? current : given;
    if (wish !== null) {
      const prevented = wish.preventSets && isHeld(current);
      recordValue(shared, realm, wish, prevented ? SET_PREVENTED : SET, writing, value);
      if (prevented) return;
    }
    // As an ordinary property: one that is inherited is made anew on the object that is written to.
    if (self === owner || !isHeld(self)) current = value;
    else reflectDefine(self as object, property, { __proto__: null, value: given, writable: true, enumerable: true, configurable: true } as PropertyDescriptor);
  });
  return put(realm, owner, property, was, {
    __proto__: null, get: reading, set: writable ? writing : undefined, enumerable: was?.enumerable === true, configurable: true,
  } as PropertyDescriptor);
};

/** Puts the proxies of constructors wherever the realm has the constructor itself: aliases, `constructor`, subclasses. */
export const settleConstructors = (realm: Recorded, { natives, proxies }: Constructors): void => {
  if (natives.length === 0) return;
  const { global } = realm;
  for (let i = 0; i < natives.length; i++) {
    const native = natives[i] as object;
    const prototype = dataOf(native, "prototype");
    if (typeof prototype !== "object" || prototype === null) continue;
    replace(realm, prototype, "constructor", descriptorOf(prototype, "constructor"), proxies);
  }
  const keys = reflectOwnKeys(global);
  for (let k = 0; k < keys.length; k++) {
    const key = keys[k] as PropertyKey;
    const descriptor = descriptorOf(global, key);
    if (descriptor === undefined || !hasOwn(descriptor, "value") || typeof descriptor.value !== "function") continue;
    replace(realm, global, key, descriptor, proxies);
    const proxy = proxies.get(prototypeOf(descriptor.value) as object);
    if (proxy !== undefined) setPrototypeOf(descriptor.value, proxy);
  }
};

const replace = (
  realm: Recorded, owner: object, property: PropertyKey, descriptor: PropertyDescriptor | undefined, proxies: Map<object, Native>,
): void => {
  if (descriptor === undefined || descriptor.configurable !== true || !hasOwn(descriptor, "value")) return;
  const proxy = proxies.get(descriptor.value as object);
  if (proxy === undefined) return;
  put(realm, owner, property, descriptor, {
    __proto__: null, value: proxy, writable: descriptor.writable === true, enumerable: descriptor.enumerable === true,
    configurable: true,
  } as PropertyDescriptor);
};
