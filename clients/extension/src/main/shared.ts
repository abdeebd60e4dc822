// What the documents of one agent share: the originals behind the proxies (so that Function.prototype.toString of any
// realm tells them), which realms are hooked and by whom, and the documents whose channel is open.
//
// A document gets it from a same-origin neighbour by an event whose name no page knows.
import { adoptEvent } from "../handoff";
import type { Primitive } from "./primitive";
import type { Sink } from "./sink";
import {
  CustomEventOf, addListener, currentTargetOf, detailOf, dispatch, parentOf, preventDefault, prototypeOf,
  reflectDefine, relatedTargetOf, safeList, safeWeakMap, stopImmediate, viewOf,
} from "./primordials";

/** The state of one hooked realm, as proxies know it. */
export interface Recorded<S extends RecordSink = RecordSink> {
  /** Where its records go. */
  sink: S;
  readonly global: object;
  readonly primitive: Primitive;
  /** What was in the place of its properties, where that has to be put back; null: it need not. */
  readonly before: Replaced[] | null;
}

/** A property of the page's that is ours now. */
export interface Replaced {
  readonly owner: object;
  readonly property: PropertyKey;
  /** None: it was not there. */
  readonly was: PropertyDescriptor | undefined;
  readonly is: PropertyDescriptor;
}

/** Defines a property of the page's; `is` has no prototype. */
export const put = (
  realm: Recorded, owner: object, property: PropertyKey, was: PropertyDescriptor | undefined, is: PropertyDescriptor,
): boolean => {
  if (!reflectDefine(owner, property, is)) return false;
  if (realm.before !== null) realm.before[realm.before.length] = { owner, property, was, is };
  return true;
};

/** Of a document. */
export type Realm = Recorded<Sink>;

/** What proxies know of a sink. */
export interface RecordSink {
  /** Whether a use of the symbol is to be recorded; one beyond the limit (0: none) is counted. */
  admits(symbol: string, limit: number): boolean;
  /** Place of the record, for `amend`. Throws at the end of the stack, and then nothing is recorded. */
  record(
    symbol: string, operation: number, flags: number, stack: string | null, value: string | null, args: string | null,
    cut: number,
  ): number;
  /** Changes the operation of a record that is still here. */
  amend(place: number, operation: number): void;
}

/** Whether the realm of a window is one of ours; then it records by way of the target. */
type Adopt = (view: Window, target: EventTarget) => boolean;

/** Siblings asked for what they share. */
const NEIGHBOURS = 32;

export class Shared {
  /** Proxy to the native behind it. */
  readonly originals: WeakMap<object, object> = safeWeakMap();
  /** `Window.prototype` (its identity cannot be faked) to the state of its realm; null: another document's hooks have it. */
  readonly realms: WeakMap<object, Realm | null> = safeWeakMap();
  /** Object of a target (an interface's prototype, for most) to the target's name. */
  readonly names: WeakMap<object, string> = safeWeakMap();
  readonly #secret: string;
  readonly #adopters: WeakMap<Window, Adopt> = safeWeakMap();
  #first: Adopt | null = null;
  readonly #sinks: Sink[] = safeList();
  #sinkCount = 0;

  /** `limit`: calls recorded of each symbol in each document; 0: all. */
  constructor(secret: string, readonly limit: number) {
    this.#secret = secret;
  }

  addSink(sink: Sink): void {
    this.#sinks[this.#sinkCount++] = sink;
  }

  removeSink(sink: Sink): void {
    for (let i = 0; i < this.#sinkCount; i++) {
      if (this.#sinks[i] !== sink) continue;
      this.#sinks[i] = this.#sinks[--this.#sinkCount] as Sink;
      this.#sinks[this.#sinkCount] = undefined as never;
      return;
    }
  }

  /** A document whose records still arrive. */
  openSink(): Sink | null {
    for (let i = 0; i < this.#sinkCount; i++) {
      const sink = this.#sinks[i] as Sink;
      if (sink.open) return sink;
    }
    return null;
  }

  /** Answers neighbours that ask at this window. Idempotent. */
  listen(window: Window): void {
    addListener(window, this.#secret, this.#answer, true);
    addListener(window, adoptEvent(this.#secret), this.#onAdopt, true);
  }

  readonly #answer = (event: Event): void => {
    stopImmediate(event);
    preventDefault(event);
    const box = detailOf(event) as { shared: Shared | null } | null;
    if (box !== null) box.shared = this;
  };

  /** Whether a document's hooks answer at this window. */
  claimed(window: Window): boolean {
    return !dispatch(window, new CustomEventOf(this.#secret, { __proto__: null, cancelable: true } as CustomEventInit));
  }

  // From the isolated world of a document: we may have hooked its realm before it was there.
  readonly #onAdopt = (event: Event): void => {
    stopImmediate(event);
    const view = viewOf(event);
    const target = relatedTargetOf(event);
    if (view !== null && target !== null && this.#adopterOf(event)(view, target)) preventDefault(event);
  };

  /** The hooks of a document give a realm of ours that another document has now a channel of its own. */
  offerAdoption(window: Window, adopt: Adopt): void {
    this.#adopters.set(window, adopt);
    this.#first ??= adopt;
  }

  // Those of a document above the new one: what other documents give dies with them.
  #adopterOf(event: Event): Adopt {
    try {
      for (let at = currentTargetOf(event) as Window; ; at = parentOf(at)) {
        const found = this.#adopters.get(at);
        if (found !== undefined) return found;
        if (parentOf(at) === at) break;
      }
    } catch {
      // A parent of another origin.
    }
    return this.#first ?? (() => false);
  }
}

/** What a same-origin neighbour of this window shares; null when there is none. */
export const askNeighbours = (window: Window, secret: string): Shared | null => {
  const asked = (other: Window | null): Shared | null => {
    if (other === null || other === window) return null;
    // Null for windows of other origins, without an exception.
    if (prototypeOf(other) === null) return null;
    const box = { __proto__: null, shared: null as Shared | null };
    dispatch(other, new CustomEventOf(secret, { __proto__: null, detail: box } as CustomEventInit));
    return box.shared;
  };
  const parent = window.parent;
  const near = asked(parent) ?? asked(window.opener as Window | null) ?? asked(window.top);
  if (near !== null || parent === window) return near;
  const siblings = parent.length;
  for (let i = 0; i < siblings && i < NEIGHBOURS; i++) {
    const shared = asked(parent[i] as Window);
    if (shared !== null) return shared;
  }
  return null;
};
