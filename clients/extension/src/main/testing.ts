// `window.instrumentJS`, as OpenWPM's test pages know it: only where the service's configuration says `testing`. Any
// script can see and call it.
import type { LogSettings } from "../config";
import { resolve } from "./plan";
import type { Primitive } from "./primitive";
import { objectCreate, prototypeOf, reflectDefine } from "./primordials";
import type { Hooks } from "./realm";
import type { Shared } from "./shared";

/** What a page asks for: a live object or a path to it, a name, and any of the nine settings. */
interface Request {
  readonly object?: unknown;
  readonly instrumentedName?: unknown;
  readonly logSettings?: Partial<LogSettings>;
}

const DEFAULTS: LogSettings = {
  propertiesToInstrument: [], nonExistingPropertiesToInstrument: [], excludedProperties: [], logCallStack: false,
  logFunctionsAsStrings: false, logFunctionGets: false, preventSets: false, recursive: false, depth: 5,
};
const PATH = /^window((?:\.[\w$]+|\['[^'\\]+'\])*)$/;
const STEP = /\.([\w$]+)|\['([^'\\]+)'\]/g;

const objectOf = (global: Window, asked: unknown): object | null => {
  if (typeof asked !== "string") return (typeof asked === "object" || typeof asked === "function") ? asked : null;
  const steps = PATH.exec(asked)?.[1];
  if (steps === undefined) return null;
  return resolve(global, [...steps.matchAll(STEP)].map((step) => (step[1] ?? step[2]) as string));
};

export const offerInstrumentJS = (view: Window, hooks: Hooks, shared: Shared, primitive: Primitive): void => {
  const window = primitive.held(view);
  const realm = shared.realms.get(prototypeOf(window) as object);
  if (realm === undefined || realm === null) return;
  const instrumentJS = (requests: readonly Request[]): void => {
    const bad: string[] = [];
    for (const { object, instrumentedName, logSettings } of requests) {
      const found = objectOf(window, object);
      if (found === null) bad.push(`${String(instrumentedName)}: ${String(object)} is no object`);
      else hooks.instrument(realm, found, String(instrumentedName), { ...DEFAULTS, ...logSettings });
    }
    if (bad.length > 0) throw primitive.typeError(realm, `JS instrumentation failed for ${bad.join("; ")}`);
  };
  reflectDefine(window, "instrumentJS", Object.assign(objectCreate(null), {
    value: primitive.offered(realm, instrumentJS), writable: true, enumerable: false, configurable: true,
  }) as PropertyDescriptor);
};
