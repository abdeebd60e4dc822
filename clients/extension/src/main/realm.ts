// Hooks one realm: Function.prototype.toString, every accessor by which page script reaches another realm, and the
// instrumented properties.
import { MISSING, NOT_A_ROW, NOT_INSTRUMENTED } from "../batch";
import type { LogSettings, MainConfig, Target } from "../config";
import { hookedKey } from "../handoff";
import { install, noConstructors, settleConstructors } from "./install";
import { Planner } from "./plan";
import type { Plan, Planned, Wish } from "./plan";
import {
  MessageChannelOf, MutationObserverOf, addListener, closedOf, defaultViewOf, descriptorOf, disconnect, documentTreeLength,
  exhaustedPrototype, hasOwn, observe, persistedOf, port1Of, port2Of, postMessage,
  prototypeOf, reflectDefine, safeWeakMap, setOnMessage,
} from "./primordials";
import type { Native, Primitive } from "./primitive";
import { cookieSetter, cookieStoreMethod, observed, setPrototypeOfProxy, toStringProxy } from "./proxies";
import { put } from "./shared";
import type { Realm, Shared } from "./shared";
import { Sink } from "./sink";

type Global = Window & Record<string, { prototype: object } | undefined>;

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

export class Hooks {
  readonly #shared: Shared;
  readonly #config: MainConfig;
  readonly #primitive: Primitive;
  /** What listens for the end of realms whose hooks are lent. */
  readonly #over: WeakMap<Realm, (event: Event) => void> = safeWeakMap();
  /** Realms whose Function.prototype.toString is answered for. */
  readonly #masked: WeakMap<object, boolean> = safeWeakMap();

  /** `window`: the document's, whose hooks they are. */
  constructor(window: Window, shared: Shared, config: MainConfig, primitive: Primitive) {
    this.#shared = shared;
    this.#config = config;
    this.#primitive = primitive;
    shared.offerAdoption(window, (view, target) => this.#adopt(primitive.held(view), target));
  }

  /** Hooks a window's realm once; windows of other origins, and those that another document's hooks have, are left alone. */
  hook(found: Window, sink: Sink, outside: boolean): void {
    const shared = this.#shared;
    const primitive = this.#primitive;
    const window = primitive.held(found);
    const key = prototypeOf(window) as object | null;
    if (key === null || shared.realms.get(key) !== undefined) return;
    if (primitive.apart && outside && shared.claimed(window)) {
      shared.realms.set(key, null);
      return;
    }
    const realm: Realm = { sink, global: window, primitive, before: primitive.lent(window) };
    shared.realms.set(key, realm);
    if (realm.before !== null) this.#whenOver(window, realm, key);
    const global = window as Global;
    if (outside && !primitive.apart) this.#mark(global);
    this.#mask(realm);
    // The instrumented properties last: what stands in their place is the outermost, and finds the page's frames below it.
    this.#children(global, realm);
    if (this.#config.cookies) this.#cookies(global, realm);
    if (!this.#config.javascript) return;
    const planned = new Planner(shared, global).plan(this.#config.targets);
    this.#install(planned, realm, false, isTop(window));
  }

  // What is lent to a frame's realm works no longer when the frame is gone, and pages keep objects of frames they removed.
  // The document of a URL may take over the realm of the empty one before it, with all that is in it.
  #whenOver(window: Window, realm: Realm, key: object): void {
    const later = new MessageChannelOf();
    setOnMessage(port2Of(later), () => {
      if (!isOver(window, key)) return;
      setOnMessage(port2Of(later), null);
      realm.primitive.giveBack(realm.before ?? []);
    });
    this.#over.set(realm, (event) => {
      if (!persistedOf(event)) postMessage(port1Of(later), 0);
    });
    this.#listenForEnd(window, realm);
  }

  #listenForEnd(window: Window, realm: Realm): void {
    const listener = this.#over.get(realm);
    if (listener !== undefined) addListener(window, "pagehide", listener, true);
  }

  #adopt(view: Window, target: EventTarget): boolean {
    const shared = this.#shared;
    const realm = shared.realms.get(prototypeOf(view) as object);
    if (realm === null || (realm === undefined && !(this.#primitive.apart && isFrame(view)))) return false;
    if (realm !== undefined && this.#primitive.apart && !isFrame(view)) {
      // A popup outlives its opener.
      this.#primitive.giveBack(realm.before ?? []);
      shared.realms.set(prototypeOf(view) as object, null);
      return false;
    }
    const sink = new Sink(shared, view);
    sink.connect(target);
    if (realm === undefined) {
      this.hook(view, sink, false);
    } else {
      realm.sink = sink;
      this.#rename(view);
      this.#watch(view, () => this.#scan(view as Global, realm));
    }
    return true;
  }

  /** Instruments an object that a page of a test names. */
  instrument(realm: Realm, object: object, name: string, settings: LogSettings): void {
    const planner = new Planner(this.#shared, realm.global);
    planner.add(object, name, settings, true);
    this.#install(planner.done(), realm, true, true);
  }

  // The content script of a document that reuses this global must not run its code in it: by then the page has had it.
  #mark(global: Global): void {
    const reload = descriptorOf(global.location, "reload");
    if (reload === undefined || !hasOwn(reload, "value")) return;
    reflectDefine(reload.value as object, hookedKey(this.#config.secret), { __proto__: null, value: true } as PropertyDescriptor);
  }

  #mask(realm: Realm): void {
    if (!this.#primitive.masks() || this.#masked.get(realm) === true) return;
    this.#masked.set(realm, true);
    const { prototype } = (realm.global as unknown as { Function: { prototype: object } }).Function;
    this.#replace(realm, prototype, "toString", (native) => toStringProxy(this.#shared, realm, native));
    const { Reflect: reflect } = realm.global as unknown as { Reflect: object };
    this.#replace(realm, reflect, "setPrototypeOf", (native) => setPrototypeOfProxy(this.#shared, realm, native));
  }

  #replace(realm: Realm, owner: object, property: string, make: (native: Native) => Native): void {
    const descriptor = descriptorOf(owner, property);
    if (descriptor === undefined || descriptor.configurable !== true) return;
    if (!hasOwn(descriptor, "value") || typeof descriptor.value !== "function") return;
    put(realm, owner, property, descriptor, {
      __proto__: null, value: make(descriptor.value as Native), writable: descriptor.writable === true,
      enumerable: descriptor.enumerable === true, configurable: true,
    } as PropertyDescriptor);
  }

  #replaceAccessor(
    realm: Realm, owner: object, property: string, get: ((native: Native) => Native) | null, set: ((native: Native) => Native) | null,
  ): void {
    const descriptor = descriptorOf(owner, property);
    if (descriptor === undefined || descriptor.configurable !== true || hasOwn(descriptor, "value")) return;
    const { get: nativeGet, set: nativeSet } = descriptor as { get: Native | undefined; set: Native | undefined };
    put(realm, owner, property, descriptor, {
      __proto__: null,
      get: nativeGet !== undefined && get !== null ? get(nativeGet) : nativeGet,
      set: nativeSet !== undefined && set !== null ? set(nativeSet) : nativeSet,
      enumerable: descriptor.enumerable === true, configurable: true,
    } as PropertyDescriptor);
  }

  #install({ plans, missing, absent, left }: Planned, realm: Realm, exact: boolean, reports: boolean): void {
    const constructors = noConstructors();
    const say = (symbol: string, operation: number, why: string): void => {
      if (reports) realm.sink.record(symbol, operation, NOT_A_ROW, null, why, null, 0);
    };
    for (let i = 0; i < plans.length; i++) {
      const plan = plans[i] as Plan;
      if (install(this.#shared, realm, plan, constructors, exact)) continue;
      for (let w = 0; w < plan.wishes.length; w++) {
        const { named, symbol } = plan.wishes[w] as Wish;
        if (named) say(symbol, NOT_INSTRUMENTED, "not_replaceable");
      }
    }
    settleConstructors(realm, constructors);
    this.#mask(realm);
    for (let i = 0; i < absent.length; i++) say(absent[i] as string, NOT_INSTRUMENTED, "not_there");
    if (left > 0) say("*", NOT_INSTRUMENTED, "plan_cap");
    const secure = (realm.global as Window).isSecureContext;
    for (let i = 0; i < missing.length; i++) {
      const { object, required } = missing[i] as Target;
      if (required) say(object, MISSING, secure ? "there" : "insecure");
    }
  }

  // A window that is reused for another document has a new one.
  #rename(window: Window): void {
    const { targets } = this.#config;
    for (let t = 0; t < targets.length; t++) {
      const { path, instrumentedName } = targets[t] as Target;
      if (path.length === 1 && path[0] === "document") this.#shared.names.set(window.document, instrumentedName);
    }
  }

  #cookies(global: Global, realm: Realm): void {
    const shared = this.#shared;
    const store = global.CookieStore?.prototype;
    if (store !== undefined) {
      this.#replace(realm, store, "set", (native) => cookieStoreMethod(shared, realm, native, "set"));
      this.#replace(realm, store, "delete", (native) => cookieStoreMethod(shared, realm, native, "delete"));
    }
    const documents = global.Document?.prototype;
    if (documents !== undefined) this.#replaceAccessor(realm, documents, "cookie", null, (set) => cookieSetter(shared, realm, set));
  }

  #children(global: Global, realm: Realm): void {
    const scan = (): void => this.#scan(global, realm);
    const reach = (view: Window | null | undefined): void => {
      if (view !== null && view !== undefined) this.hook(view, realm.sink, true);
    };
    const ofWindow = (native: Native): Native => observed(realm, native, (result) => reach(result as Window | null));
    const ofDocument = (native: Native): Native =>
      observed(realm, native, (result) => reach(result === null ? null : defaultViewOf(result)));
    for (let i = 0; i < WINDOW_OF.length; i++) {
      const prototype = global[WINDOW_OF[i] as string]?.prototype;
      if (prototype === undefined) continue;
      this.#replaceAccessor(realm, prototype, "contentWindow", ofWindow, null);
      this.#replaceAccessor(realm, prototype, "contentDocument", ofDocument, null);
    }
    for (let i = 0; i < SVG_OF.length; i++) {
      const prototype = global[SVG_OF[i] as string]?.prototype;
      if (prototype !== undefined) this.#replace(realm, prototype, "getSVGDocument", ofDocument);
    }
    this.#replace(realm, global, "open", ofWindow);
    for (let i = 0; i < INSERTERS.length; i++) {
      const [name, properties] = INSERTERS[i] as readonly [string, readonly string[]];
      const prototype = global[name]?.prototype;
      if (prototype === undefined) continue;
      for (let p = 0; p < properties.length; p++) {
        const property = properties[p] as string;
        this.#replace(realm, prototype, property, (native) => observed(realm, native, scan));
        this.#replaceAccessor(realm, prototype, property, null, (native) => observed(realm, native, scan));
      }
    }
    const opened = (native: Native): Native => observed(realm, native, (_result, self) => this.#opened(self, realm));
    const documents = global.Document?.prototype;
    if (documents !== undefined) for (let i = 0; i < OPENERS.length; i++) this.#replace(realm, documents, OPENERS[i] as string, opened);
    this.#watch(global, scan);
    scan();
  }

  // These remove the listeners of the document's window, whichever document it is.
  #opened(self: unknown, realm: Realm): void {
    const view = this.#primitive.held(defaultViewOf(self));
    if (view === null) return;
    const owner = this.#shared.realms.get(prototypeOf(view) as object) ?? realm;
    owner.sink.listen();
    this.#listenForEnd(view, owner);
    this.#scan(view as Global, owner);
  }

  // Frames that the parser inserts, before the script that follows them: it runs microtasks in between.
  #watch(global: Window, scan: () => void): void {
    const observer = new MutationObserverOf(scan);
    observe(observer, global.document, { __proto__: null, childList: true, subtree: true } as MutationObserverInit);
    addListener(global.document, "DOMContentLoaded", () => disconnect(observer), true);
  }

  #scan(global: Global, realm: Realm): void {
    const count = framesIn(global);
    for (let i = 0; i < count; i++) this.hook(global[i] as Window, realm.sink, true);
  }
}

/** Of a window whose frame was removed there may be nothing left to ask. */
const framesIn = (window: Window): number => {
  try {
    return documentTreeLength(window);
  } catch (error) {
    if (prototypeOf(error as object) === exhaustedPrototype) throw error;
    return 0;
  }
};

/** Whether a window no longer shows the realm of this key. */
const isOver = (window: Window, key: object): boolean => {
  try {
    return closedOf(window) || prototypeOf(window) !== key;
  } catch {
    return true;
  }
};

const isFrame = (window: Window): boolean => window.parent !== window;

/** Whether it is the window of a tab, with a page from the network. */
const isTop = (window: Window): boolean => {
  if (isFrame(window)) return false;
  const { protocol } = window.location;
  return protocol === "http:" || protocol === "https:";
};
