// Where the page called from: a stack taken without running page code.
//
// V8 formats a stack by the page's Error.prepareStackTrace and as deep as Error.stackTraceLimit says. When both are
// plain data they are set aside for the moment; when they are not, the record is marked as tampered instead.
import { STACK_FRAMES } from "../batch";
import {
  ErrorOf, captureStackTrace, descriptorOf, functionPrototype, hasOwn, indexOf, lastIndexOf, objectPrototype, prototypeOf,
  reflectHas, slice,
} from "./primordials";

/** Frames above the call site may be natives, as Array.map. */
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
  const held = holder();
  settings.stackTraceLimit = long ? STACK_FRAMES : SHORT;
  if (prepared) settings.prepareStackTrace = undefined;
  try {
    captureStackTrace(held, trap);
    return held.stack;
  } finally {
    settings.stackTraceLimit = limit;
    if (prepared) settings.prepareStackTrace = prepare;
  }
};

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

const nativeStackGetter = descriptorOf(new ErrorOf(), "stack")?.get;

/** The stack of an error that keeps it natively; null where reading it would run page code. */
const stackOf = (error: object): string | null => {
  const descriptor = descriptorOf(error, "stack");
  if (descriptor === undefined) return null;
  let stack: unknown;
  if (hasOwn(descriptor, "value")) stack = descriptor.value;
  else if (nativeStackGetter !== undefined && descriptor.get === nativeStackGetter) stack = (error as { stack: unknown }).stack;
  return typeof stack === "string" ? stack : null;
};

/**
 * Takes our frames out of an error that the native itself made. One whose first frame is the page's was thrown by page
 * code inside the native, and is left as it is.
 */
export const withoutOurFrames = (error: unknown, trap: unknown): unknown => {
  if (captureStackTrace === undefined || typeof error !== "object" || error === null) return error;
  if (!ordinaryChain() || reflectHas(ErrorOf, "prepareStackTrace")) return error;
  const stack = stackOf(error);
  if (stack === null) return error;
  const start = indexOf(stack, "\n    at ");
  if (start < 0) return error;
  const end = indexOf(stack, "\n", start + 1);
  const first = slice(stack, start, end < 0 ? stack.length : end);
  if (indexOf(first, ourUrl) >= 0) captureStackTrace(error, trap);
  return error;
};
