// Capture mode `wrapped`: Proxies in the page's own world. A Proxy keeps name, length, own keys, descriptors,
// constructibility and identity of what it wraps; what is left to do is Function.prototype.toString, error stacks and
// the prototype cycle check.
import { callSite, withoutOurFrames } from "./callsite";
import type { Accessors, Apply, Construct, Native, Primitive } from "./primitive";
import {
  ProxyOf, TypeErrorOf, captureStackTrace, descriptorOf, objectCreate, prototypeOf, setPrototypeOf,
} from "./primordials";
import type { Recorded } from "./shared";

/** `originals`: proxy to the native behind it. */
export const wrapped = (originals: WeakMap<object, object>): Primitive => ({
  pass(realm: Recorded, native: Native, apply: Apply): Native {
    return this.wrap(realm, native, apply);
  },
  wrap(_realm: Recorded, native: Native, apply: Apply, construct?: Construct): Native {
    const handler = {
      __proto__: null,
      apply,
      construct,
      setPrototypeOf: (target: object, proto: object | null): boolean => {
        for (let at = proto; at !== null; at = prototypeOf(at) as object | null) {
          if (at === proxy) throw cyclic(target, handler.setPrototypeOf);
        }
        setPrototypeOf(target, proto);
        return true;
      },
    };
    const proxy = new ProxyOf(native, handler as unknown as ProxyHandler<Native>);
    originals.set(proxy, originals.get(native) ?? native);
    return proxy;
  },
  accessors(_realm: Recorded, property: string, get: (self: unknown) => unknown, set: (self: unknown, given: unknown) => void): Accessors {
    const made = {
      get [property](): unknown {
        return get(this);
      },
      set [property](given: unknown) {
        set(this, given);
      },
    };
    return descriptorOf(made, property) as Accessors;
  },
  masks: () => true,
  callSite,
  thrown: withoutOurFrames,
  held: <T>(value: T): T => value,
  offered: (_realm: Recorded, run: unknown): unknown => run,
  typeError: (_realm: Recorded, message: string): unknown => new TypeErrorOf(message),
  lent: () => null,
  giveBack: () => {},
  apart: false,
});

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
