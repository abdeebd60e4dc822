// Where the page called from: a stack taken without running page code.
//
// V8 formats a stack by the page's Error.prepareStackTrace and as deep as Error.stackTraceLimit says. When both are
// plain data they are set aside for the moment; when they are not, the record is marked as tampered instead.
import { STACK_FRAMES } from "../batch";
import {
  ErrorOf, captureStackTrace, descriptorOf, functionPrototype, hasOwn, indexOf, lastIndexOf, objectPrototype, prototypeOf,
  reflectApply, reflectHas, slice,
} from "./primordials";

/** Frames above the call site may be natives, as Array.map, and code of an eval is placed by the frame below it. */
const SHORT = 4;

/** Set when the last stack could not be taken. */
export const state = { __proto__: null, tampered: false };

const settings = ErrorOf as unknown as { stackTraceLimit: unknown; prepareStackTrace: unknown };
const holder = (): { stack: string } => ({ __proto__: null, stack: "" }) as unknown as { stack: string };

/** Whether an ordinary assignment to this property of Error runs no page code. */
const plain = (name: string): boolean => {
  const descriptor = descriptorOf(ErrorOf, name);
  return descriptor !== undefined && hasOwn(descriptor, "value") && descriptor.writable === true;
};

const ordinaryChain = (): boolean =>
  prototypeOf(ErrorOf) === functionPrototype && prototypeOf(functionPrototype) === objectPrototype;

/** The frames below `trap`; null, and the state tampered, when the page made that impossible. */
export const callSite = (trap: unknown, long: boolean): string | null => {
  if (captureStackTrace === undefined) return null;
  const prepared = reflectHas(ErrorOf, "prepareStackTrace");
  if (!ordinaryChain() || !plain("stackTraceLimit") || (prepared && !plain("prepareStackTrace"))) {
    state.tampered = true;
    return null;
  }
  const limit = settings.stackTraceLimit;
  const prepare = prepared ? settings.prepareStackTrace : undefined;
  if (prepared) settings.prepareStackTrace = undefined;
  try {
    if (long) return frames(trap, STACK_FRAMES);
    const first = frames(trap, 1);
    return tellsPlace(first) ? first : frames(trap, SHORT);
  } finally {
    settings.stackTraceLimit = limit;
    if (prepared) settings.prepareStackTrace = prepare;
  }
};

/** Each frame costs a microsecond or two. */
const frames = (trap: unknown, most: number): string => {
  settings.stackTraceLimit = most;
  const held = holder();
  (captureStackTrace as NonNullable<typeof captureStackTrace>)(held, trap);
  return held.stack;
};

/** Whether the one frame of a stack, of V8's or Firefox's, is a place in a file. */
const tellsPlace = (stack: string): boolean =>
  (indexOf(stack, FRAME) >= 0 || indexOf(stack, "@") >= 0)
  && indexOf(stack, "<anonymous") < 0 && indexOf(stack, "eval at ") < 0 && indexOf(stack, "wasm") < 0;

/** The URL of this script, as frames have it: `    at name (url:line:column)`, or without a name. */
const ourUrl = ((): string => {
  const held = holder();
  captureStackTrace?.(held, undefined);
  const { stack } = held;
  const start = indexOf(stack, "\n    at ");
  if (start < 0) return "chrome-extension://";
  const end = indexOf(stack, "\n", start + 1);
  const frame = slice(stack, start + 8, end < 0 ? stack.length : end);
  const place = slice(frame, indexOf(frame, "(") + 1, lastIndexOf(frame, ":"));
  return slice(place, 0, lastIndexOf(place, ":"));
})();

const nativeStack = descriptorOf(new ErrorOf(), "stack");

/** The stack of an error that keeps it natively; null where reading it would run page code. */
const stackOf = (error: object): string | null => {
  const descriptor = descriptorOf(error, "stack");
  if (descriptor === undefined) return null;
  let stack: unknown;
  if (hasOwn(descriptor, "value")) stack = descriptor.value;
  else if (descriptor.get !== undefined && descriptor.get === nativeStack?.get) stack = (error as { stack: unknown }).stack;
  return typeof stack === "string" ? stack : null;
};

const setStack = (error: object, stack: string): void => {
  const descriptor = descriptorOf(error, "stack") as PropertyDescriptor;
  if (!hasOwn(descriptor, "value")) reflectApply(descriptor.set as (stack: string) => void, error, [stack]);
  else if (descriptor.writable === true) (error as { stack: unknown }).stack = stack;
};

/** Place of the n-th line of frames, or the end. */
const lineAt = (text: string, n: number): number => {
  let at = indexOf(text, FRAME);
  for (let i = 0; i < n && at >= 0; i++) at = indexOf(text, FRAME, at + 1);
  return at < 0 ? text.length : at;
};

const FRAME = "\n    at ";
const NATIVE = "<anonymous>)";

/**
 * Takes our frames out of an error that the native itself made: its first frames are natives, and then ours. One whose
 * first frame is the page's was thrown by page code inside the native, and is left as it is.
 */
export const withoutOurFrames = (error: unknown, trap: unknown): unknown => {
  if (captureStackTrace === undefined || typeof error !== "object" || error === null) return error;
  if (!ordinaryChain() || reflectHas(ErrorOf, "prepareStackTrace")) return error;
  const stack = stackOf(error);
  if (stack === null) return error;
  const start = indexOf(stack, FRAME);
  if (start < 0) return error;
  let at = start;
  let natives = 0;
  for (;;) {
    const next = indexOf(stack, FRAME, at + 1);
    const end = next < 0 ? stack.length : next;
    const line = slice(stack, at, end);
    if (indexOf(line, ourUrl) >= 0) break;
    if (slice(line, line.length - NATIVE.length) !== NATIVE || next < 0) return error;
    natives++;
    at = next;
  }
  if (natives === 0) {
    captureStackTrace(error, trap);
    return error;
  }
  const held = holder();
  captureStackTrace(held, trap);
  const below = held.stack;
  const limit = settings.stackTraceLimit;
  const room = typeof limit === "number" ? limit - natives : 0;
  setStack(error, slice(stack, 0, at) + slice(below, lineAt(below, 0), lineAt(below, room)));
  return error;
};
