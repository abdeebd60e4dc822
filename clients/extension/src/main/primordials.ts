// Natives of this realm, a document's or a worker's, taken before any page script. Code in the page's world uses nothing else: no method calls on
// page-visible prototypes, no iteration protocols, no spread, no array growth by index on ordinary arrays.

export const {
  apply: reflectApply, construct: reflectConstruct, has: reflectHas, defineProperty: reflectDefine, ownKeys: reflectOwnKeys,
} = Reflect;
export const {
  getOwnPropertyDescriptor: descriptorOf, getPrototypeOf: prototypeOf, setPrototypeOf, create: objectCreate,
} = Object;
export const ProxyOf = Proxy;
export const ErrorOf = Error;
export const TypeErrorOf = TypeError;
/** Undefined in workers, as all that is documents'. */
export const MouseEventOf = globalThis.MouseEvent;
export const MutationObserverOf = globalThis.MutationObserver;
export const CustomEventOf = globalThis.CustomEvent;
export const EventTargetOf = EventTarget;
export const MessageChannelOf = MessageChannel;
export const stringify = JSON.stringify;
export const isArray = Array.isArray;
export const round = Math.round;
export const isView = ArrayBuffer.isView;
export const StringOf = String;
export const functionPrototype = Function.prototype;
export const objectPrototype = Object.prototype;
/** Of the error at the end of the stack. */
export const exhaustedPrototype =
  ((globalThis as { InternalError?: ErrorConstructor }).InternalError ?? RangeError).prototype as object;
export const captureStackTrace = (Error as unknown as { captureStackTrace?: (on: object, below: unknown) => void })
  .captureStackTrace;

const { bind } = Function.prototype;
const { call } = Function.prototype;
type Uncurried<F> = F extends (this: infer T, ...args: infer A) => infer R ? (self: T, ...args: A) => R : never;
/** The method as a function whose first argument is its receiver. */
export const uncurry = <F extends (this: never, ...args: never[]) => unknown>(method: F): Uncurried<F> =>
  reflectApply(bind, call, [method]) as Uncurried<F>;

export const addListener = uncurry(EventTarget.prototype.addEventListener as (this: EventTarget, type: string, listener: unknown, options?: unknown) => void);
export const dispatch = uncurry(EventTarget.prototype.dispatchEvent as (this: EventTarget, event: Event) => boolean);
export const preventDefault = uncurry(Event.prototype.preventDefault as (this: Event) => void);
export const stopImmediate = uncurry(Event.prototype.stopImmediatePropagation as (this: Event) => void);
export const postMessage = uncurry(MessagePort.prototype.postMessage as (this: MessagePort, message: unknown) => void);
export const slice = uncurry(String.prototype.slice as (this: string, start: number, end?: number) => string);
export const lastIndexOf = uncurry(String.prototype.lastIndexOf as (this: string, text: string, from?: number) => number);
export const isWellFormed = uncurry(String.prototype.isWellFormed as (this: string) => boolean);
export const indexOf = uncurry(String.prototype.indexOf as (this: string, text: string, from?: number) => number);
export const functionToString = Function.prototype.toString;
export const hasOwn = uncurry(Object.prototype.hasOwnProperty as (this: object, key: PropertyKey) => boolean);

/** A data property's value; undefined for accessors. Descriptors inherit from a prototype that pages can change. */
export const dataOf = (owner: object, key: PropertyKey): unknown => {
  const descriptor = descriptorOf(owner, key);
  return descriptor !== undefined && hasOwn(descriptor, "value") ? descriptor.value : undefined;
};

const absent = function (this: unknown): never {
  throw new TypeErrorOf("there are no documents here");
};
/** The getter of an interface; one that throws where the realm lacks the interface. */
const required = (owner: object | undefined, name: string): ((this: unknown) => unknown) => {
  if (owner === undefined) return absent;
  const getter = descriptorOf(owner, name)?.get;
  if (getter === undefined) throw new TypeErrorOf(`no native accessor ${name}`);
  return getter;
};
/** The page's own, where this script is in another world: what that world has of them costs ten times as much. */
const own = ((globalThis as { wrappedJSObject?: unknown }).wrappedJSObject ?? globalThis) as Partial<typeof globalThis>;
const { window: page, Document: DocumentOf, Node: NodeOf, Element: ElementOf } = own;
const { UIEvent: UIEventOf } = globalThis as Partial<typeof globalThis>;
export const currentTargetOf = uncurry(required(Event.prototype, "currentTarget") as (this: Event) => EventTarget | null);
export const detailOf = uncurry(required(CustomEventOf?.prototype, "detail") as (this: Event) => unknown);
export const relatedTargetOf = uncurry(required(MouseEventOf?.prototype, "relatedTarget") as (this: Event) => EventTarget | null);
export const viewOf = uncurry(required(UIEventOf?.prototype, "view") as (this: Event) => Window | null);
export const persistedOf = uncurry(required(globalThis.PageTransitionEvent?.prototype, "persisted") as (this: Event) => boolean);
export const documentTreeLength = uncurry(required(page, "length") as (this: Window) => number);
export const parentOf = uncurry(required(page, "parent") as (this: Window) => Window);
export const closedOf = uncurry(required(page, "closed") as (this: Window) => boolean);
export const defaultViewOf = uncurry(required(DocumentOf?.prototype, "defaultView") as (this: unknown) => Window | null);
export const observe = uncurry((MutationObserverOf?.prototype.observe ?? absent) as (this: MutationObserver, node: Node, how: MutationObserverInit) => void);
export const disconnect = uncurry((MutationObserverOf?.prototype.disconnect ?? absent) as (this: MutationObserver) => void);
export const nodeNameOf = uncurry(required(NodeOf?.prototype, "nodeName") as (this: object) => string);
export const elementIdOf = uncurry(required(ElementOf?.prototype, "id") as (this: object) => string);
export const classNameOf = uncurry(required(ElementOf?.prototype, "className") as (this: object) => string);
export const symbolDescription = uncurry(required(Symbol.prototype, "description") as (this: symbol) => string | undefined);
export const port1Of = uncurry(required(MessageChannel.prototype, "port1") as (this: MessageChannel) => MessagePort);
export const port2Of = uncurry(required(MessageChannel.prototype, "port2") as (this: MessageChannel) => MessagePort);
/** At the end of the running task; to wait for what is no object asks nothing of the page's Promise. */
export const microtask = async (run: () => void): Promise<void> => {
  await null;
  run();
};
export const setOnMessage = uncurry(
  descriptorOf(MessagePort.prototype, "onmessage")?.set as (this: MessagePort, handler: unknown) => void,
);

const clock = own.performance as Performance;
/** Milliseconds since the time origin, as the page's own clock has them. */
export const now = reflectApply(bind, clock.now, [clock]) as () => number;
export const timeOrigin = performance.timeOrigin;

const withMethods = <C extends Map<unknown, unknown> | WeakMap<object, unknown>>(
  collection: C, methods: object,
): C => setPrototypeOf(collection, methods) as C;
const mapMethods = {
  __proto__: null, get: Map.prototype.get, set: Map.prototype.set, has: Map.prototype.has, clear: Map.prototype.clear,
};
const weakMethods = {
  __proto__: null, get: WeakMap.prototype.get, set: WeakMap.prototype.set, has: WeakMap.prototype.has,
};
const MapOf = Map;
const WeakMapOf = WeakMap;
/** A map whose methods no page can replace. */
export const safeMap = <K, V>(): Map<K, V> => withMethods(new MapOf<K, V>() as Map<unknown, unknown>, mapMethods) as Map<K, V>;
/** A weak map whose methods no page can replace. */
export const safeWeakMap = <K extends object, V>(): WeakMap<K, V> =>
  withMethods(new WeakMapOf<object, unknown>(), weakMethods) as WeakMap<K, V>;
/** A list that no setter on `Array.prototype` sees growing. */
export const safeList = <T>(): T[] => setPrototypeOf([], null) as T[];
