// Tells what runs code of the page's when it is looked at: Proxies, and the few kinds of objects that Firefox shows to
// other worlds as little of (https://firefox-source-docs.mozilla.org/dom/scriptSecurity/xray_vision.html).
//
// Through the browser's own eyes such an object has no properties, and the prototype of ordinary objects; what tells it
// from an ordinary object without properties is that no copy of it can be made.
import { prototypeOf, reflectOwnKeys } from "../main/primordials";

declare const XPCNativeWrapper: (value: object) => object;
declare const cloneInto: (value: object, scope: object, options: object) => object;

const SCOPE = {};
const REFLECTORS = { wrapReflectors: true };
const InternalErrorOf = (globalThis as unknown as { InternalError: ErrorConstructor }).InternalError;

export const isOpaque = (value: object): boolean => {
  const seen = XPCNativeWrapper(value);
  const proto = prototypeOf(seen) as object | null;
  if (proto === null || prototypeOf(proto) !== null || reflectOwnKeys(seen).length > 0) return false;
  try {
    cloneInto(seen, SCOPE, REFLECTORS);
    return false;
  } catch (error) {
    // Near the end of the stack the call itself must fail.
    if (error instanceof InternalErrorOf) throw error;
    return true;
  }
};
