// What is to be recorded of which property: the targets of the settings against the objects of one realm.
import { CALL_STACK } from "../batch";
import type { LogSettings, Target } from "../config";
import {
  descriptorOf, hasOwn, prototypeOf, reflectApply, reflectOwnKeys, safeList, safeMap, safeWeakMap,
} from "./primordials";
import type { Shared } from "./shared";

/** How one target wants a property recorded. */
export interface Wish {
  /** The target's name, as it is among the names of objects. */
  readonly name: string;
  readonly symbol: string;
  readonly flags: number;
  readonly functionSource: boolean;
  readonly functionGets: boolean;
  readonly preventSets: boolean;
  /** The objects among its values are instrumented themselves: then only their use is recorded, not the way there. */
  readonly below: boolean;
  /** Whichever object it is used on. */
  readonly everywhere: boolean;
  /** The user named the property. */
  readonly named: boolean;
}

/** What to do about one property of one object. */
export interface Plan {
  readonly owner: object;
  readonly property: string;
  /** One at least. */
  readonly wishes: Wish[];
  /** The one wish there is, for all receivers; null: the receiver tells which. */
  only: Wish | null;
}

export interface Planned {
  readonly plans: Plan[];
  /** Targets that this realm has not. */
  readonly missing: Target[];
  /** Properties that the user named and no object has. */
  readonly absent: string[];
  /** Properties left out because there were too many. */
  readonly left: number;
}

/** Properties instrumented in one realm. */
const MOST = 20_000;
const HOPS = 16;
/** Interfaces of which a window has one object: what is called on another is called in vain, and recorded as well. */
const SINGLE = [
  "WorkerGlobalScope", "WorkerNavigator", "WorkerLocation", "Window", "Navigator", "Screen", "Document", "HTMLDocument", "History", "Location",
  "Performance",
];

/** By properties alone; null when the realm has no such thing, or does not let it be had. */
export const resolve = (global: object, path: readonly string[]): object | null => {
  let at: unknown = global;
  try {
    for (let i = 0; i < path.length; i++) {
      if ((typeof at !== "object" && typeof at !== "function") || at === null) return null;
      at = (at as Record<string, unknown>)[path[i] as string];
    }
  } catch {
    return null;
  }
  return typeof at === "object" || typeof at === "function" ? (at as object | null) : null;
};

/** The wish that a use on `self` fulfils; null: nobody asked. */
export const wishFor = (shared: Shared, plan: Plan, self: unknown): Wish | null => {
  if (plan.only !== null) return plan.only;
  if ((typeof self !== "object" && typeof self !== "function") || self === null) return null;
  const { wishes } = plan;
  let at = self as object | null;
  for (let hops = 0; at !== null && hops < HOPS; hops++) {
    const name = shared.names.get(at);
    if (name !== undefined) {
      for (let i = 0; i < wishes.length; i++) if ((wishes[i] as Wish).name === name) return wishes[i] as Wish;
    }
    at = prototypeOf(at) as object | null;
  }
  return null;
};

const includes = (list: readonly string[], name: string): boolean => {
  for (let i = 0; i < list.length; i++) if (list[i] === name) return true;
  return false;
};

/** Plans one realm. */
export class Planner {
  readonly #shared: Shared;
  readonly #global: object;
  readonly #single: object[] = safeList();
  readonly #places = safeMap<object, Map<string, Plan>>();
  readonly #plans: Plan[] = safeList();
  readonly #missing: Target[] = safeList();
  readonly #absent: string[] = safeList();
  #seen: WeakMap<object, boolean> = safeWeakMap();
  #left = 0;
  #named = false;

  constructor(shared: Shared, global: object) {
    this.#shared = shared;
    this.#global = global;
    for (let i = 0; i < SINGLE.length; i++) {
      const prototype = resolve(global, [SINGLE[i] as string, "prototype"]);
      if (prototype !== null) this.#single[this.#single.length] = prototype;
    }
  }

  plan(targets: readonly Target[]): Planned {
    for (let t = 0; t < targets.length; t++) {
      const target = targets[t] as Target;
      const object = resolve(this.#global, target.path);
      if (object === null) this.#missing[this.#missing.length] = target;
      else this.add(object, target.instrumentedName, target.logSettings, target.required);
    }
    return this.done();
  }

  done(): Planned {
    const plans = this.#plans;
    for (let i = 0; i < plans.length; i++) {
      const plan = plans[i] as Plan;
      const first = plan.wishes[0] as Wish;
      plan.only = plan.wishes.length === 1 && first.everywhere ? first : null;
    }
    return { plans, missing: this.#missing, absent: this.#absent, left: this.#left };
  }

  /** A target whose object is known. */
  add(object: object, name: string, settings: LogSettings, byUser: boolean): void {
    this.#seen = safeWeakMap();
    const listed = settings.propertiesToInstrument;
    this.#named = byUser && listed !== null && listed.length > 0;
    this.#object(object, name, settings, settings.depth);
  }

  #object(object: object, name: string, settings: LogSettings, depth: number): void {
    const { names } = this.#shared;
    if (names.get(object) === undefined) names.set(object, name);
    this.#seen.set(object, true);
    const listed = depth === settings.depth ? settings.propertiesToInstrument : [];
    if (listed !== null) {
      if (listed.length === 0) this.#all(object, name, settings, depth);
      else for (let i = 0; i < listed.length; i++) this.#listed(object, name, listed[i] as string, settings, depth, false);
    }
    const more = settings.nonExistingPropertiesToInstrument;
    for (let i = 0; i < more.length; i++) this.#listed(object, name, more[i] as string, settings, depth, true);
  }

  // Not the properties that every object of the page has: to hook those would be seen and felt everywhere.
  #all(object: object, name: string, settings: LogSettings, depth: number): void {
    for (let owner = object as object | null; owner !== null; owner = prototypeOf(owner) as object | null) {
      if (owner !== object && prototypeOf(owner) === null && hasOwn(owner, "__defineGetter__")) return;
      const keys = reflectOwnKeys(owner);
      for (let k = 0; k < keys.length; k++) {
        const property = keys[k];
        if (typeof property === "string" && property !== "constructor") {
          this.#property(object, owner, name, property, settings, depth);
        }
      }
    }
  }

  #listed(object: object, name: string, property: string, settings: LogSettings, depth: number, make: boolean): void {
    let found = false;
    for (let owner = object as object | null; owner !== null; owner = prototypeOf(owner) as object | null) {
      if (descriptorOf(owner, property) === undefined) continue;
      found = true;
      this.#property(object, owner, name, property, settings, depth);
    }
    if (found) return;
    if (make) this.#property(object, object, name, property, settings, depth);
    else if (this.#named) this.#absent[this.#absent.length] = `${name}.${property}`;
  }

  #property(
    object: object, owner: object, name: string, property: string, settings: LogSettings, depth: number,
  ): void {
    if (includes(settings.excludedProperties, property)) return;
    const below = settings.recursive && depth > 0;
    const everywhere = owner === object || this.#isSingle(owner);
    const wish = {
      __proto__: null, name, symbol: `${name}.${property}`, flags: settings.logCallStack ? CALL_STACK : 0,
      functionSource: settings.logFunctionsAsStrings, functionGets: settings.logFunctionGets,
      preventSets: settings.preventSets, below, everywhere,
      named: this.#named && depth === settings.depth,
    } as unknown as Wish;
    this.#wish(owner, property, wish);
    if (!below) return;
    const value = valueOf(object, owner, property);
    if (typeof value !== "object" || value === null || this.#seen.get(value) !== undefined) return;
    this.#object(value, wish.symbol, settings, depth - 1);
  }

  #isSingle(owner: object): boolean {
    for (let i = 0; i < this.#single.length; i++) if (this.#single[i] === owner) return true;
    return false;
  }

  #wish(owner: object, property: string, wish: Wish): void {
    let place = this.#places.get(owner);
    if (place === undefined) {
      place = safeMap<string, Plan>();
      this.#places.set(owner, place);
    }
    const known = place.get(property);
    if (known !== undefined) {
      known.wishes[known.wishes.length] = wish;
      return;
    }
    if (this.#plans.length >= MOST) {
      this.#left++;
      return;
    }
    const wishes = safeList<Wish>();
    wishes[0] = wish;
    const plan = { owner, property, wishes, only: null };
    place.set(property, plan);
    this.#plans[this.#plans.length] = plan;
  }
}

/** What the property of this object holds now; undefined when it cannot be read. */
const valueOf = (object: object, owner: object, property: string): unknown => {
  const descriptor = descriptorOf(owner, property);
  if (descriptor === undefined) return undefined;
  if (hasOwn(descriptor, "value")) return descriptor.value;
  if (descriptor.get === undefined) return undefined;
  try {
    return reflectApply(descriptor.get, object, []);
  } catch {
    return undefined;
  }
};
