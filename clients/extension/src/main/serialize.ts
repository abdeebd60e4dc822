// Values of the page as text, without running page code: descriptors are read, getters, toJSON and toString are not
// called. A page's own Proxy is the exception; its traps run, and what they call is recorded as any call is.
import { VALUE_CAP } from "../batch";
import {
  StringOf, classNameOf, dataOf, descriptorOf, elementIdOf, functionToString, hasOwn, isArray, isView, nodeNameOf, prototypeOf,
  exhaustedPrototype, reflectApply, reflectOwnKeys, safeList, slice, stringify, symbolDescription,
} from "./primordials";

const MAX_DEPTH = 8;
const MAX_NODES = 2000;
const OPAQUE = '"[object Proxy]"';

/** Cut units of the last {@link serializeValue} or {@link serializeArguments}: one thread, read at once. */
export const cut = { __proto__: null, units: 0 };

/**
 * What cannot be looked at without running code of the page's: that of a Proxy. `run` is replaced where that can be told;
 * where it cannot and must not be, `blind` keeps all objects that are no nodes from being looked into.
 */
export const looks = { __proto__: null, run: (_value: object): boolean => false, blind: false };

let nodes = 0;
let length = 0;

const capped = (text: string): string => {
  if (text.length <= VALUE_CAP) return text;
  cut.units += text.length - VALUE_CAP;
  return slice(text, 0, VALUE_CAP);
};

const ofFunction = (value: unknown, source: boolean): string =>
  source ? (reflectApply(functionToString, value as () => void, []) as string) : "FUNCTION";

/** Null for undefined. */
export const serializeValue = (value: unknown, functionSource: boolean): string | null => {
  cut.units = 0;
  switch (typeof value) {
    case "string": return value.length <= VALUE_CAP ? value : capped(value);
    case "undefined": return null;
    case "object": return value === null ? "null" : capped(ofObject(value as object));
    case "function": return capped(ofFunction(value, functionSource));
    case "symbol": return capped(ofSymbol(value));
    default: return StringOf(value);
  }
};

/** A JSON array; null for a call without any. */
export const serializeArguments = (args: ArrayLike<unknown>, functionSource: boolean): string | null => {
  cut.units = 0;
  const count = args.length;
  if (count === 0) return null;
  let out = "[";
  for (let i = 0; i < count; i++) {
    if (i > 0) out += ",";
    const value = args[i];
    const kind = typeof value;
    if (kind === "string") out += stringify(capped(value as string));
    else if (kind === "number") out += value === value && value !== Infinity && value !== -Infinity ? StringOf(value) : "null";
    else if (kind === "boolean") out += value === true ? "true" : "false";
    else if (kind === "undefined") out += "null";
    else if (kind === "object") out += stringify(value === null ? "null" : capped(ofObject(value as object)));
    else if (kind === "function") out += stringify(capped(ofFunction(value, functionSource)));
    else if (kind === "symbol") out += stringify(ofSymbol(value as symbol));
    else out += stringify(StringOf(value));
  }
  return out + "]";
};

const ofSymbol = (value: symbol): string => {
  const description = symbolDescription(value);
  return description === undefined ? "Symbol()" : `Symbol(${description})`;
};

const ofObject = (value: object): string => {
  nodes = 0;
  length = 0;
  try {
    return elementPath(value) ?? (looks.blind ? "OBJECT" : ofNested(value, safeList<object>(), 0));
  } catch (error) {
    if (isExhausted(error)) throw error;
    return "SERIALIZATION ERROR";
  }
};

// Near the end of the stack the call itself must fail, or a page could hide arguments there.
const isExhausted = (error: unknown): boolean => {
  if (typeof error !== "object" || error === null) return false;
  const proto = prototypeOf(error) as object | null;
  return proto === exhaustedPrototype;
};

/** `TAG[id,class]` of an element, `#text` and the like of other nodes; undefined for what is no node. */
const elementPath = (value: object): string | undefined => {
  let name: string;
  try {
    name = nodeNameOf(value);
  } catch {
    return undefined;
  }
  try {
    return `${name}[${elementIdOf(value)},${classNameOf(value)}]`;
  } catch {
    return name;
  }
};

const ofNested = (value: unknown, above: object[], depth: number): string => {
  switch (typeof value) {
    case "string": length += value.length; return stringify(length > VALUE_CAP ? slice(value, 0, 1024) : value);
    case "number": return value === value && value !== Infinity && value !== -Infinity ? StringOf(value) : "null";
    case "boolean": return value ? "true" : "false";
    case "undefined": return "null";
    case "function": return '"FUNCTION"';
    case "symbol": return stringify(ofSymbol(value));
    case "bigint": return stringify(StringOf(value));
    default: return value === null ? "null" : ofMembers(value as object, above, depth);
  }
};

const ofMembers = (value: object, above: object[], depth: number): string => {
  for (let i = 0; i < depth; i++) if (above[i] === value) return '"CYCLE"';
  if (depth >= MAX_DEPTH) return '"DEEP"';
  if (isView(value)) return stringify(`[object ${brandOf(value)}]`);
  if (depth > 0) {
    const path = elementPath(value);
    if (path !== undefined) return stringify(path);
  }
  if (looks.run(value)) return OPAQUE;
  above[depth] = value;
  return isArray(value) ? ofArray(value, above, depth) : ofRecord(value, above, depth);
};

const spent = (): boolean => ++nodes > MAX_NODES || length > VALUE_CAP;

const ofArray = (value: unknown[], above: object[], depth: number): string => {
  let out = "[";
  const count = value.length;
  for (let i = 0; i < count; i++) {
    if (i > 0) out += ",";
    if (spent()) {
      cut.units += count - i;
      return `${out}"CUT"]`;
    }
    const descriptor = descriptorOf(value, i);
    out += descriptor === undefined ? "null" : ofDescriptor(descriptor, above, depth);
  }
  return out + "]";
};

const ofDescriptor = (descriptor: PropertyDescriptor, above: object[], depth: number): string =>
  hasOwn(descriptor, "value") ? ofNested(descriptor.value, above, depth + 1) : '"ACCESSOR"';

const ofRecord = (value: object, above: object[], depth: number): string => {
  const brand = brandOf(value);
  // Everything they hold, and a megabyte for a page, would be in every row.
  if (brand === "Storage" || brand === "Window" || brand === "CSSStyleDeclaration") return stringify(`[object ${brand}]`);
  const keys = reflectOwnKeys(value);
  let out = "";
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    if (typeof key !== "string") continue;
    const descriptor = descriptorOf(value, key);
    if (descriptor === undefined || descriptor.enumerable !== true) continue;
    if (out !== "") out += ",";
    if (spent()) {
      cut.units += keys.length - i;
      return `{${out}"CUT":true}`;
    }
    out += `${stringify(key)}:${ofDescriptor(descriptor, above, depth)}`;
  }
  if (out === "" && brand !== "Object") return stringify(`[object ${brand}]`);
  return `{${out}}`;
};

/** Name of the nearest constructor, read as data only. */
const brandOf = (value: object): string => {
  let proto = prototypeOf(value) as object | null;
  for (let hops = 0; proto !== null && hops < 8 && !looks.run(proto); hops++) {
    const maker = dataOf(proto, "constructor");
    if (typeof maker === "function") {
      const name = dataOf(maker, "name");
      return typeof name === "string" ? name : "Object";
    }
    proto = prototypeOf(proto) as object | null;
  }
  return "Object";
};
