// Capture mode `exported`: what stands in the place of a native runs in the isolated world, and the page has a function
// that the browser made. Its name, length, source text, frames and errors are those of a native.
//
// Firefox only. Objects of the page are held waived (https://firefox-source-docs.mozilla.org/dom/scriptSecurity/xray_vision.html):
// that is their own identity, and what the page's natives are called with.
import { STACK_FRAMES } from "../batch";
import type { Accessors, Apply, Construct, Native, Primitive } from "../main/primitive";
import {
  captureStackTrace, dataOf, descriptorOf, functionToString, hasOwn, prototypeOf, reflectApply, reflectDefine, slice,
} from "../main/primordials";
import type { Recorded, Replaced } from "../main/shared";

declare const exportFunction: (callee: (...args: never[]) => unknown, scope: object, options: object) => Native;
declare const XPCNativeWrapper: { (value: object): object; unwrap<T>(value: T): T };

const { unwrap: held } = XPCNativeWrapper;
/** What an object of the page is by the browser's own knowledge, whatever scripts did to it. */
const seen = XPCNativeWrapper;
/** Frames above the call site may be natives, as Array.map. */
const SHORT = 4;
/** The most frames of this script in a row. */
const OURS = 12;
const HOLDER = { stack: "" };
const InternalErrorOf = (globalThis as unknown as { InternalError: ErrorConstructor }).InternalError;

const NONE: unknown[] = [];
/** Bound functions in a row: some kilobytes of stack. */
const DEEP = 24;

type Invoke = (self: unknown, args: IArguments) => unknown;
type Shape = (invoke: Invoke) => Native;

/** Methods of a length each: only a method, or an accessor, is exported as one that cannot be constructed. */
const SHAPES: readonly Shape[] = [
  (invoke) => ({ run() { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown, _f: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown, _f: unknown, _g: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown, _f: unknown, _g: unknown, _h: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown, _f: unknown, _g: unknown, _h: unknown, _i: unknown) { return invoke(this, arguments); } }).run as Native,
  (invoke) => ({ run(_a: unknown, _b: unknown, _c: unknown, _d: unknown, _e: unknown, _f: unknown, _g: unknown, _h: unknown, _i: unknown, _j: unknown) { return invoke(this, arguments); } }).run as Native,
];
const GETTER: Shape = (invoke) => descriptorOf({ get run() { return invoke(this, arguments); } }, "run")?.get as Native;
const SETTER: Shape = (invoke) => descriptorOf({ set run(_given: unknown) { invoke(this, arguments); } }, "run")?.set as Native;

type Globals = typeof globalThis & { readonly InternalError: ErrorConstructor };

/** What we have of a realm of the page's, from before any script of it. */
interface Home {
  readonly global: object;
  readonly Object: ObjectConstructor;
  /** For the browser to name functions on: one of a computed name is exported without a name. */
  readonly scratch: object;
  /** A function that does nothing, deep down. */
  readonly deep: Native;
}

const homes = new WeakMap<Recorded, Home>();
const homeOf = (realm: Recorded): Home => {
  const known = homes.get(realm);
  if (known !== undefined) return known;
  // Of the globals only those that a realm is born with: to name another one makes it, which shows in their order.
  const { Function: { prototype }, Object: objects } = realm.global as Globals;
  let deep = prototype as unknown as Native;
  for (let i = 0; i < DEEP; i++) deep = reflectApply(prototype.bind, deep, NONE) as Native;
  const home = { global: realm.global, Object: objects, scratch: objects.create(null) as object, deep };
  homes.set(realm, home);
  return home;
};

const exported = ({ scratch }: Home, made: Native, name: string): Native =>
  held(exportFunction(made, scratch, { allowCrossOriginArguments: true, defineAs: name }));

const list = (args: IArguments): unknown[] => {
  const all: unknown[] = [];
  for (let i = 0; i < args.length; i++) all[i] = held(args[i]);
  return all;
};

const define = ({ Object: objects }: Home, on: object, key: string, value: unknown): void => {
  objects.defineProperty(on, key, Object.assign(objects.create(null) as object, { value, configurable: true }));
};

/** Our own failure, and not the page's: what the page throws comes behind a wrapper. */
const isOurs = (error: unknown): boolean => typeof error === "object" && error !== null && held(error) === error;

/** What the page is to catch. */
const told = ({ global }: Home, error: unknown): unknown => {
  if (error instanceof InternalErrorOf) return overrun(global);
  if (isOurs(error)) console.error("sonde: a recorder failed", error);
  return error;
};

/** The page's own error for the end of its stack: whatever the page did to the name. */
const overrun = (global: object): unknown =>
  held(new (seen(global) as Globals).InternalError("too much recursion"));

/** The URL of this script, as it stands in frames. */
const ourUrl = ((): string => {
  const stack = new Error().stack ?? "";
  const start = stack.indexOf("@") + 1;
  return stack.slice(start, /:\d+:\d+\n?/.exec(stack)?.index);
})();

/** A function of ours. */
interface Slot {
  /** What does its work when the realm of its native is gone. */
  instead: Native | null;
}

export class Exported implements Primitive {
  readonly #window = held(window);
  readonly #slots = new WeakMap<object, Slot>();
  readonly #originals: WeakMap<object, object>;
  #masks = false;
  #late = false;
  readonly apart = true;
  readonly held = held;

  /** `originals`: what Function.prototype.toString cannot tell of, to the native behind it. */
  constructor(originals: WeakMap<object, object>) {
    this.#originals = originals;
  }

  wrap(realm: Recorded, native: Native, apply: Apply, construct?: Construct): Native {
    const home = homeOf(realm);
    return this.#isPlain(native) ? this.#plain(home, native, apply) : this.#proxy(home, native, apply, construct);
  }

  // A built-in function that is no constructor: nothing of it but the name and the length shows. Before any script of the
  // page every function is built in.
  #isPlain(native: Native): boolean {
    if (hasOwn(native, "prototype")) return false;
    return !this.#late || reflectApply(functionToString, native, NONE).includes("[native code]");
  }

  /** From now on functions may be the page's own. */
  begun(): void {
    this.#late = true;
  }

  pass(realm: Recorded, native: Native, apply: Apply): Native {
    const slot: Slot = { instead: null };
    const home = homeOf(realm);
    return this.#lend(home, native, slot, (self, args) => {
      try {
        return slot.instead === null ? apply(native, self, args as unknown as unknown[]) : reflectApply(slot.instead, self, args);
      } catch (error) {
        throw told(home, error);
      }
    });
  }

  // As few functions on top of each other as can be: what the page has left of its stack shows.
  #plain(home: Home, native: Native, apply: Apply): Native {
    const slot: Slot = { instead: null };
    const { deep } = home;
    return this.#lend(home, native, slot, (self, args) => {
      try {
        if (slot.instead !== null) return reflectApply(slot.instead, held(self), list(args));
        // Where the stack ends, the page is to see its own error: a function of its own, which needs more of the stack
        // than ours do, runs first.
        reflectApply(deep, undefined, NONE);
        return apply(native, held(self), list(args));
      } catch (error) {
        throw told(home, error);
      }
    });
  }

  #lend(home: Home, native: Native, slot: Slot, run: Invoke): Native {
    const { name, length } = native;
    const kind = slice(name, 0, 4);
    const shape = kind === "get " ? GETTER : kind === "set " ? SETTER : SHAPES[length] ?? (SHAPES[0] as Shape);
    const made = exported(home, shape(run), name);
    if (length >= SHAPES.length) define(home, made, "length", length);
    this.#slots.set(made, slot);
    return made;
  }

  // A page may extend a constructor, and to an exported one its `new.target` is lost; the page's own functions keep their
  // source, and whatever they hold, behind a Proxy of the page's.
  #proxy(home: Home, native: Native, apply: Apply, construct: Construct | undefined): Native {
    const { Object: objects } = home;
    // Not by name: pages replace it.
    const Proxies = held((seen(home.global) as Globals).Proxy);
    const handler = objects.create(null) as Record<string, Native>;
    const trap = (made: object): Native => exported(home, Object.values(made)[0] as Native, "");
    handler.apply = trap({ apply: (target: Native, self: unknown, args: unknown[]) => apply(held(target), held(self), held(args)) });
    if (construct !== undefined) handler.construct = trap({
      construct: (target: Native, args: unknown[], newTarget: object) => construct(held(target), held(args), held(newTarget)),
    });
    const { setPrototypeOf: change, create } = objects;
    handler.setPrototypeOf = trap({
      setPrototypeOf: (of: object, to: object | null): boolean => {
        const target = held(of);
        const proto = held(to);
        for (let at = proto; at !== null; at = prototypeOf(at) as object | null) {
          // Throws what the page's own would.
          if (at === proxy) reflectApply(change, objects, [target, reflectApply(create, objects, [target])]);
        }
        reflectApply(change, objects, [target, proto]);
        return true;
      },
    });
    const proxy = held(new Proxies(native, handler as unknown as ProxyHandler<Native>));
    this.#originals.set(proxy, this.#originals.get(native) ?? native);
    this.#masks = true;
    return proxy;
  }

  accessors(realm: Recorded, property: string, get: (self: unknown) => unknown, set: (self: unknown, given: unknown) => void): Accessors {
    const home = homeOf(realm);
    const kept = (run: Invoke): Invoke => (self, args) => {
      try {
        return run(self, args);
      } catch (error) {
        throw told(home, error);
      }
    };
    return {
      get: exported(home, GETTER(kept((self) => get(held(self)))), `get ${property}`),
      set: exported(home, SETTER(kept((self, args) => set(held(self), held(args[0])))), `set ${property}`),
    };
  }

  masks(): boolean {
    return this.#masks;
  }

  // To name a function that frames are to be below of costs the tenfold.
  callSite(_trap: unknown, long: boolean): string | null {
    Error.stackTraceLimit = OURS + (long ? STACK_FRAMES : SHORT);
    captureStackTrace?.(HOLDER, undefined);
    const { stack } = HOLDER;
    let at = 0;
    for (;;) {
      const end = stack.indexOf("\n", at);
      if (end < 0 || !stack.slice(at, end).includes(ourUrl)) break;
      at = end + 1;
    }
    const frames = stack.slice(at);
    // A native that calls the page back is called from here.
    return frames.includes(ourUrl) ? frames.split("\n").filter((frame) => !frame.includes(ourUrl)).join("\n") : frames;
  }

  lent(global: object): Replaced[] | null {
    return global === this.#window ? null : [];
  }

  giveBack(replaced: readonly Replaced[]): void {
    for (const { owner, property, was, is } of replaced) {
      try {
        this.#outlive(owner, property, is);
        const now = descriptorOf(owner, property);
        if (now === undefined || now.get !== is.get || now.set !== is.set || now.value !== is.value) continue;
        if (was === undefined) Reflect.deleteProperty(owner, property);
        else reflectDefine(owner, property, was);
      } catch (error) {
        // The frame was faster.
        if (!isOurs(error)) throw error;
      }
    }
  }

  /** From now on our functions do what those of the same name of this document do. */
  #outlive(owner: object, property: PropertyKey, is: PropertyDescriptor): void {
    const maker = dataOf(owner, "constructor");
    const name = typeof maker === "function" ? dataOf(maker, "name") : undefined;
    const ours = this.#window as unknown as Record<string, { prototype?: object } | undefined>;
    const like = maker === undefined ? ours : ours[String(name)]?.prototype;
    const twin = like === undefined ? undefined : descriptorOf(like, property);
    for (const part of ["get", "set", "value"] as const) {
      const slot = typeof is[part] === "function" ? this.#slots.get(is[part] as object) : undefined;
      if (slot !== undefined) slot.instead = (twin?.[part] as Native | undefined) ?? null;
    }
  }

  // Its frames are none of ours: those of the isolated world are hidden from the page.
  thrown(error: unknown): unknown {
    return error;
  }

  offered<A>(realm: Recorded, run: (argument: A) => void): unknown {
    return exported(homeOf(realm), (SHAPES[1] as Shape)((_self, args) => run(held(args[0]) as A)), run.name);
  }

  typeError(realm: Recorded, message: string): unknown {
    return new (realm.global as Globals).TypeError(message);
  }
}
