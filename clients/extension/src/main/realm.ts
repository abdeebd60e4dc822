// Hooks one realm: the instrumented properties, Function.prototype.toString, and every accessor by which page script
// reaches another realm.
import { CALL_STACK, NOT_A_ROW } from "../batch";
import type { MainConfig, Target, TargetSettings } from "../config";
import { fingerprinting } from "../collection";
import { hookedKey } from "../handoff";
import {
  MutationObserverOf, addListener, defaultViewOf, descriptorOf, disconnect, documentTreeLength, hasOwn, observe,
  prototypeOf, reflectDefine, reflectOwnKeys, safeList, safeMap, slice, split,
} from "./primordials";
import { cookieStoreMethod, getter, method, observed, setter, toStringProxy } from "./proxies";
import type { Plan } from "./proxies";
import type { Realm, Shared } from "./shared";
import { Sink } from "./sink";

type Global = Window & Record<string, { prototype: object } | undefined>;
type Native = (this: unknown, ...args: unknown[]) => unknown;

/** Bases whose properties every element or object has: not recorded for an interface that asks for "all". */
const GENERIC = ["Object", "EventTarget", "Node", "Element", "HTMLElement"];
const INSERTERS: readonly (readonly [string, readonly string[]])[] = [
  ["Node", ["appendChild", "insertBefore", "replaceChild"]],
  ["Element", ["append", "prepend", "before", "after", "replaceWith", "replaceChildren", "moveBefore", "insertAdjacentElement", "insertAdjacentHTML", "innerHTML", "outerHTML", "setHTMLUnsafe"]],
  ["Document", ["append", "prepend", "replaceChildren", "moveBefore"]],
  ["DocumentFragment", ["append", "prepend", "replaceChildren", "moveBefore"]],
  ["CharacterData", ["before", "after", "replaceWith"]],
  ["Range", ["insertNode", "surroundContents"]],
  ["ShadowRoot", ["innerHTML", "setHTMLUnsafe"]],
];
const OPENERS = ["open", "write", "writeln"];
const WINDOW_OF = ["HTMLIFrameElement", "HTMLFrameElement", "HTMLObjectElement"];
const SVG_OF = ["HTMLIFrameElement", "HTMLObjectElement", "HTMLEmbedElement"];

interface Planned {
  readonly owner: object;
  readonly property: string;
  plan: Plan;
}

export class Hooks {
  readonly #shared: Shared;
  readonly #config: MainConfig;
  readonly #targets: readonly Target[];

  constructor(shared: Shared, config: MainConfig) {
    this.#shared = shared;
    this.#config = config;
    this.#targets = config.targets ?? fingerprinting();
    shared.adopt = (realm, view, target) => {
      realm.sink = new Sink(shared, view);
      realm.sink.connect(target);
      this.#watch(view, () => this.#scan(view as Global, realm));
    };
  }

  /** Hooks a window's realm once; windows of other origins are left alone. */
  hook(window: Window, sink: Sink, outside: boolean): void {
    const key = prototypeOf(window) as object | null;
    if (key === null || this.#shared.realms.get(key) !== undefined) return;
    const realm: Realm = { sink };
    this.#shared.realms.set(key, realm);
    const global = window as Global;
    if (outside) this.#mark(global);
    this.#toString(global);
    if (this.#config.javascript) this.#instrument(global, realm);
    if (this.#config.cookies) this.#cookies(global, realm);
    this.#children(global, realm);
  }

  // The content script of a document that reuses this global must not run its code in it: by then the page has had it.
  #mark(global: Global): void {
    const reload = descriptorOf(global.location, "reload");
    if (reload === undefined || !hasOwn(reload, "value")) return;
    reflectDefine(reload.value as object, hookedKey(this.#config.secret), { __proto__: null, value: true } as PropertyDescriptor);
  }

  #toString(global: Global): void {
    const prototype = (global as unknown as { Function: { prototype: object } }).Function.prototype;
    this.#replace(prototype, "toString", (native) => toStringProxy(this.#shared, native));
  }

  #replace(owner: object, property: string, make: (native: Native) => Native): void {
    const descriptor = descriptorOf(owner, property);
    if (descriptor === undefined || descriptor.configurable !== true) return;
    if (!hasOwn(descriptor, "value") || typeof descriptor.value !== "function") return;
    reflectDefine(owner, property, {
      __proto__: null, value: make(descriptor.value as Native), writable: descriptor.writable === true,
      enumerable: descriptor.enumerable === true, configurable: true,
    } as PropertyDescriptor);
  }

  #replaceAccessor(
    owner: object, property: string, get: ((native: Native) => Native) | null, set: ((native: Native) => Native) | null,
  ): void {
    const descriptor = descriptorOf(owner, property);
    if (descriptor === undefined || descriptor.configurable !== true || hasOwn(descriptor, "value")) return;
    const { get: nativeGet, set: nativeSet } = descriptor as { get: Native | undefined; set: Native | undefined };
    reflectDefine(owner, property, {
      __proto__: null,
      get: nativeGet !== undefined && get !== null ? get(nativeGet) : nativeGet,
      set: nativeSet !== undefined && set !== null ? set(nativeSet) : nativeSet,
      enumerable: descriptor.enumerable === true, configurable: true,
    } as PropertyDescriptor);
  }

  #instrument(global: Global, realm: Realm): void {
    const planned = this.#plan(global);
    const shared = this.#shared;
    for (let i = 0; i < planned.length; i++) {
      const { owner, property, plan } = planned[i] as Planned;
      this.#replace(owner, property, (native) => method(shared, realm, native, plan));
      this.#replaceAccessor(
        owner, property, (native) => getter(shared, realm, native, plan), (native) => setter(shared, realm, native, plan),
      );
    }
  }

  /** Every property once, under the owner that really has it. */
  #plan(global: Global): Planned[] {
    const planned = safeList<Planned>();
    const places = safeMap<object, Map<string, Planned>>();
    for (let t = 0; t < this.#targets.length; t++) {
      const target = this.#targets[t] as Target;
      const object = resolve(global, target.object);
      if (object === null || target.logSettings.propertiesToInstrument === null) continue;
      const prototype = !startsWithWindowPath(target.object);
      if (prototype) this.#shared.names.set(object, target.instrumentedName);
      const listed = target.logSettings.propertiesToInstrument;
      for (let owner = object as object | null; owner !== null; owner = prototypeOf(owner) as object | null) {
        if (listed.length === 0 && isGeneric(global, owner)) break;
        const keys = reflectOwnKeys(owner);
        for (let k = 0; k < keys.length; k++) {
          const property = keys[k];
          if (typeof property !== "string" || property === "constructor" || !wanted(target.logSettings, property)) continue;
          const symbol = prototype && owner !== object ? null : `${target.instrumentedName}.${property}`;
          add(planned, places, owner, property, planFor(target, symbol, property));
        }
      }
    }
    return planned;
  }

  #cookies(global: Global, realm: Realm): void {
    const shared = this.#shared;
    const store = global.CookieStore?.prototype;
    if (store !== undefined) {
      this.#replace(store, "set", (native) => cookieStoreMethod(shared, realm, native, "set"));
      this.#replace(store, "delete", (native) => cookieStoreMethod(shared, realm, native, "delete"));
    }
    const prototype = global.Document?.prototype;
    if (prototype === undefined) return;
    const native = descriptorOf(prototype, "cookie");
    if (native === undefined || hasOwn(native, "value") || shared.originals.get(native.set as object) !== undefined) return;
    const plan = { symbol: "window.document.cookie", property: "cookie", flags: NOT_A_ROW, functionSource: false };
    this.#replaceAccessor(prototype, "cookie", null, (set) => setter(shared, realm, set, plan));
  }

  #children(global: Global, realm: Realm): void {
    const shared = this.#shared;
    const scan = (): void => this.#scan(global, realm);
    const reach = (view: Window | null | undefined): void => {
      if (view !== null && view !== undefined) this.hook(view, realm.sink, true);
    };
    const ofWindow = (native: Native): Native => observed(shared, native, (result) => reach(result as Window | null));
    const ofDocument = (native: Native): Native =>
      observed(shared, native, (result) => reach(result === null ? null : defaultViewOf(result)));
    for (let i = 0; i < WINDOW_OF.length; i++) {
      const prototype = global[WINDOW_OF[i] as string]?.prototype;
      if (prototype === undefined) continue;
      this.#replaceAccessor(prototype, "contentWindow", ofWindow, null);
      this.#replaceAccessor(prototype, "contentDocument", ofDocument, null);
    }
    for (let i = 0; i < SVG_OF.length; i++) {
      const prototype = global[SVG_OF[i] as string]?.prototype;
      if (prototype !== undefined) this.#replace(prototype, "getSVGDocument", ofDocument);
    }
    this.#replace(global, "open", ofWindow);
    for (let i = 0; i < INSERTERS.length; i++) {
      const [name, properties] = INSERTERS[i] as readonly [string, readonly string[]];
      const prototype = global[name]?.prototype;
      if (prototype === undefined) continue;
      for (let p = 0; p < properties.length; p++) {
        const property = properties[p] as string;
        this.#replace(prototype, property, (native) => observed(shared, native, scan));
        this.#replaceAccessor(prototype, property, null, (native) => observed(shared, native, scan));
      }
    }
    const opened = (native: Native): Native => observed(shared, native, (_result, self) => this.#opened(self, realm));
    const documents = global.Document?.prototype;
    if (documents !== undefined) for (let i = 0; i < OPENERS.length; i++) this.#replace(documents, OPENERS[i] as string, opened);
    this.#watch(global, scan);
    scan();
  }

  // These remove the listeners of the document's window, whichever document it is.
  #opened(self: unknown, realm: Realm): void {
    const view = defaultViewOf(self);
    if (view === null) return;
    const owner = this.#shared.realms.get(prototypeOf(view) as object) ?? realm;
    owner.sink.listen();
    this.#scan(view as Global, owner);
  }

  // Frames that the parser inserts, before the script that follows them: it runs microtasks in between.
  #watch(global: Window, scan: () => void): void {
    const observer = new MutationObserverOf(scan);
    observe(observer, global.document, { __proto__: null, childList: true, subtree: true } as MutationObserverInit);
    addListener(global.document, "DOMContentLoaded", () => disconnect(observer), true);
  }

  #scan(global: Global, realm: Realm): void {
    const count = documentTreeLength(global);
    for (let i = 0; i < count; i++) this.hook(global[i] as Window, realm.sink, true);
  }
}

const startsWithWindowPath = (object: string): boolean => object === "window" || object[6] === ".";

/** `window`, `window.x.y` or `window['X'].prototype`, by properties alone; null when the realm has no such thing. */
const resolve = (global: Global, object: string): object | null => {
  if (object === "window") return global;
  if (!startsWithWindowPath(object)) {
    const name = slice(object, 8, object.length - "'].prototype".length);
    return global[name]?.prototype ?? null;
  }
  const names = split(slice(object, 7), ".");
  let at: unknown = global;
  for (let i = 0; i < names.length; i++) {
    if ((typeof at !== "object" && typeof at !== "function") || at === null) return null;
    at = (at as Record<string, unknown>)[names[i] as string];
  }
  return typeof at === "object" || typeof at === "function" ? (at as object | null) : null;
};

const isGeneric = (global: Global, owner: object): boolean => {
  for (let i = 0; i < GENERIC.length; i++) if (global[GENERIC[i] as string]?.prototype === owner) return true;
  return false;
};

const includes = (list: readonly string[], name: string): boolean => {
  for (let i = 0; i < list.length; i++) if (list[i] === name) return true;
  return false;
};

const wanted = ({ propertiesToInstrument: listed, excludedProperties }: TargetSettings, name: string): boolean =>
  listed !== null && (listed.length === 0 || includes(listed, name)) && !includes(excludedProperties, name);

const planFor = ({ logSettings }: Target, symbol: string | null, property: string): Plan => ({
  __proto__: null, symbol, property, flags: logSettings.logCallStack ? CALL_STACK : 0,
  functionSource: logSettings.logFunctionsAsStrings,
} as unknown as Plan);

const add = (planned: Planned[], places: Map<object, Map<string, Planned>>, owner: object, property: string, plan: Plan): void => {
  let place = places.get(owner);
  if (place === undefined) {
    place = safeMap<string, Planned>();
    places.set(owner, place);
  }
  const known = place.get(property);
  if (known === undefined) {
    const entry = { owner, property, plan };
    place.set(property, entry);
    planned[planned.length] = entry;
    return;
  }
  // Asked for by several interfaces: then the receiver tells which.
  const symbol = known.plan.symbol === plan.symbol ? plan.symbol : null;
  known.plan = {
    symbol, property, flags: known.plan.flags | plan.flags,
    functionSource: known.plan.functionSource || plan.functionSource,
  };
};
