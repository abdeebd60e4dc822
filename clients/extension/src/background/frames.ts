// The frames of all tabs: one port each, known by what the browser says of the frame.
import { FROM_BATCH, FROM_FLUSHED, FROM_LISTENING, FROM_REFUSED, FROM_STATE, FROM_WORKER, TO_FLUSH, TO_LISTEN } from "../port";
import type { FromFrame, ToFrame } from "../port";
import type { Attribution, Owner, RunningVisit } from "./attribution";
import type { Calls, Source } from "./calls";
import type { DocumentFacts } from "./javascript";

/** Messages of a frame whose tab is not settled. */
const HELD = 4096;

/** The most documents whose recorders are waited for. */
const EXPECTED = 4096;

/** How long recorders of documents that were replaced at once are waited for, in milliseconds. */
const REPLACED_MS = 500;

/**
 * How long workers have to answer at a visit's end, in milliseconds. Nothing tells one that was terminated from one that
 * is busy, and all that a worker does is handed over by the end of its task.
 */
const WORKERS_MS = 1000;

/** A document that was committed and whose recorders have not shown up. */
interface Expected {
  readonly visitId: number;
  readonly tabId: number;
  readonly url: string;
  /** It was read to its end, so that it had recorders. */
  parsed: boolean;
  /** Another took its place, perhaps before it had any. */
  replaced: boolean;
}

const passing = ({ parsed, replaced }: Expected): boolean => replaced && !parsed;

/** What is known of a tab: the tabs API has none of a DevTools context, but ports tell. */
export interface Place {
  readonly tab: chrome.tabs.Tab;
  readonly windowWidth: number | undefined;
  readonly windowHeight: number | undefined;
}

interface Frame extends Source {
  readonly port: chrome.runtime.Port;
  channel: boolean;
  /** Set while its tab is not settled. */
  held: FromFrame[] | undefined;
  settled: Promise<void>;
  /** What it was asked and has not answered, by serial. */
  readonly asked: Map<number, () => void>;
  /** Channels of workers that it listens to. */
  readonly hears: Set<string>;
}

/** A request that the policy of a document refused before it began. */
export interface Refusal {
  readonly facts: DocumentFacts;
  readonly url: string;
  readonly directive: string;
  /** Microseconds since the epoch. */
  readonly at: number;
}

/** What frames have to do with workers. */
export interface OfWorkers {
  /** A worker said this in a document that listens to it. */
  heard(facts: DocumentFacts, name: string, message: string): void;
  /** The channels that a new document is to listen to. */
  names(facts: DocumentFacts): readonly string[];
}

export class Frames {
  /** Told of what policies refuse. */
  onRefused: ((owner: Owner, refusal: Refusal) => void) | undefined;
  /** Set where frames listen to workers. */
  ofWorkers: OfWorkers | undefined;
  readonly #frames = new Set<Frame>();
  readonly #places = new Map<number, Place>();
  readonly #placeWaiters = new Map<number, Set<() => void>>();
  /** By document id. */
  readonly #expected = new Map<string, Expected>();
  /** Woken when one has. */
  readonly #shownUp = new Set<() => void>();
  /** Woken when a frame has connected. */
  readonly #came = new Set<() => void>();
  #serial = 0;

  constructor(
    readonly attribution: Attribution,
    readonly calls: Calls,
  ) {}

  connected(port: chrome.runtime.Port): void {
    const { sender } = port;
    const tab = sender?.tab;
    if (tab?.id === undefined) return;
    const facts: DocumentFacts = {
      incognito: tab.incognito, windowId: tab.windowId, tabId: tab.id, frameId: sender?.frameId ?? 0,
      documentId: sender?.documentId, documentUrl: sender?.url, topLevelUrl: sender?.frameId === 0 ? sender.url : tab.url,
    };
    this.#placed(tab.id, { tab, windowWidth: undefined, windowHeight: undefined });
    const known = this.attribution.knows(tab.id);
    const frame: Frame = {
      port, facts, prefix: undefined, channel: false, held: known ? undefined : [], settled: Promise.resolve(), asked: new Map(), hears: new Set(),
    };
    this.#frames.add(frame);
    for (const wake of this.#came) wake();
    if (!known) frame.settled = this.#settle(frame);
    port.onMessage.addListener((message: FromFrame) => {
      if (message[0] === FROM_STATE && frame.facts.frameId === 0) {
        this.#placed(frame.facts.tabId, { tab, windowWidth: message[2], windowHeight: message[3] });
      }
      if (frame.held !== undefined && frame.held.length < HELD) frame.held.push(message);
      else this.#receive(frame, message);
    });
    port.onDisconnect.addListener(() => {
      this.#frames.delete(frame);
      for (const done of frame.asked.values()) done();
    });
    void frame.settled.then(() => {
      const names = this.ofWorkers?.names(facts) ?? [];
      if (names.length > 0 && this.#frames.has(frame)) void this.#listen(frame, names);
    });
  }

  async #settle(frame: Frame): Promise<void> {
    await this.attribution.settle(frame.facts.tabId);
    const held = frame.held ?? [];
    frame.held = undefined;
    for (const message of held) this.#receive(frame, message);
  }

  #receive(frame: Frame, message: FromFrame): void {
    const { facts } = frame;
    const owner = this.attribution.owner(facts.tabId);
    switch (message[0]) {
      case FROM_BATCH: return this.calls.batch(frame, owner, message[1], message[2]);
      case FROM_FLUSHED:
      case FROM_LISTENING: return frame.asked.get(message[1])?.();
      case FROM_WORKER: return this.ofWorkers?.heard(facts, message[1], message[2]);
      case FROM_REFUSED: return this.onRefused?.(owner, { facts, url: message[1], directive: message[2], at: message[3] * 1000 });
      case FROM_STATE:
        frame.channel = message[1];
        if (frame.channel && facts.documentId !== undefined && this.#expected.delete(facts.documentId)) {
          for (const wake of this.#shownUp) wake();
        }
    }
  }

  /** Has frames listen to a worker, and waits for the first that does: false when none does in time. */
  async listen(name: string, wanted: (facts: DocumentFacts) => boolean, timeoutMs: number): Promise<boolean> {
    const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), timeoutMs));
    for (;;) {
      const asked = [...this.#frames].filter(({ facts }) => wanted(facts)).map((frame) => this.#listen(frame, [name]));
      if (asked.length > 0) return Promise.race([...asked, late]);
      let come = (_there: true): void => {};
      const came = new Promise<true>((resolve) => { come = resolve; });
      const wake = (): void => come(true);
      this.#came.add(wake);
      const there = await Promise.race([came, late]);
      this.#came.delete(wake);
      if (!there) return false;
    }
  }

  async #listen(frame: Frame, names: readonly string[]): Promise<true> {
    for (const name of names) frame.hears.add(name);
    await this.#ask(frame, (serial) => [TO_LISTEN, serial, names]);
    return true;
  }

  /** Whether a frame listens to the worker. */
  hears(name: string): boolean {
    return [...this.#frames].some(({ hears }) => hears.has(name));
  }

  /** Waits for the frame's answer, or its end. */
  async #ask(frame: Frame, message: (serial: number) => ToFrame): Promise<void> {
    const serial = ++this.#serial;
    await new Promise<void>((resolve) => {
      frame.asked.set(serial, resolve);
      frame.port.postMessage(message(serial));
    });
    frame.asked.delete(serial);
  }

  #placed(tabId: number, place: Place): void {
    const known = this.#places.get(tabId);
    this.#places.set(tabId, place.windowWidth === undefined && known !== undefined ? { ...known, tab: place.tab } : place);
    if (place.windowWidth === undefined) return;
    for (const wake of this.#placeWaiters.get(tabId) ?? []) wake();
    this.#placeWaiters.delete(tabId);
  }

  /** Where a tab is, as a frame of it tells; undefined when none does in time. */
  async place(tabId: number, timeoutMs: number): Promise<Place | undefined> {
    if (this.#places.get(tabId)?.windowWidth === undefined) {
      await new Promise<void>((resolve) => {
        this.#placeWaiters.set(tabId, (this.#placeWaiters.get(tabId) ?? new Set()).add(resolve));
        setTimeout(resolve, timeoutMs);
      });
    }
    return this.#places.get(tabId);
  }

  forget(tabId: number): void {
    this.#places.delete(tabId);
    this.#placeWaiters.delete(tabId);
  }

  /** A document was committed: its recorders have to show up before the visit's flush. */
  expect(tabId: number, documentId: string, url: string): void {
    this.replaced(tabId);
    const owner = this.attribution.owner(tabId);
    if (!this.calls.wanted.javascript || !("visit" in owner) || !owner.visit.javascript) return;
    for (const { facts, channel } of this.#frames) if (channel && facts.documentId === documentId) return;
    this.#expected.set(documentId, { visitId: owner.visit.visitId, tabId, url, parsed: false, replaced: false });
    if (this.#expected.size > EXPECTED) this.#expected.delete(this.#expected.keys().next().value as string);
  }

  /** A document was read to its end. */
  parsed(documentId: string): void {
    const expected = this.#expected.get(documentId);
    if (expected !== undefined) expected.parsed = true;
  }

  /** The documents of a tab are no longer shown: one that had not begun yet never has recorders. */
  replaced(tabId: number): void {
    for (const expected of this.#expected.values()) if (expected.tabId === tabId) expected.replaced = true;
  }

  /** The URL of a document changed without a load. */
  moved(tabId: number, frameId: number, documentId: string | undefined, url: string): void {
    for (const frame of this.#frames) {
      const { facts } = frame;
      if (facts.tabId !== tabId) continue;
      const same = documentId === undefined ? facts.frameId === frameId : facts.documentId === documentId;
      if (same) facts.documentUrl = url;
      if (frameId === 0) facts.topLevelUrl = url;
      if (same || frameId === 0) frame.prefix = undefined;
    }
  }

  /** Waits until every document of a visit that `wanted` tells has its recorders, or the time is over. */
  async #all(visit: RunningVisit, wanted: (of: Expected) => boolean, timeoutMs: number): Promise<void> {
    let wake = (): void => {};
    const missing = (): boolean => this.#missing(visit).some(([, of]) => wanted(of));
    const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), timeoutMs));
    for (let waiting = true; waiting && missing();) {
      const shownUp = new Promise<true>((resolve) => { wake = () => resolve(true); });
      this.#shownUp.add(wake);
      waiting = await Promise.race([shownUp, late]);
      this.#shownUp.delete(wake);
    }
  }

  #missing(visit: RunningVisit): [string, Expected][] {
    return [...this.#expected].filter(([, { visitId }]) => visitId === visit.visitId);
  }

  /**
   * Flushes every frame of a visit; the number of those that did not answer in time, or whose recorders never came.
   * `bare`: URLs of documents that were stopped before their first element.
   */
  async flush(visit: RunningVisit, timeoutMs: number, bare: readonly string[]): Promise<number> {
    // The answer of the browser comes after the events before it: from here on every document that it has committed
    // is known, and its recorders may be on their way.
    await chrome.storage.session.get("sonde.alive");
    for (const [documentId, { url }] of this.#missing(visit)) if (bare.includes(url)) this.#expected.delete(documentId);
    await Promise.all([
      this.#all(visit, (of) => !passing(of), timeoutMs),
      this.#all(visit, passing, Math.min(REPLACED_MS, timeoutMs)),
    ]);
    const frames = [...this.#frames];
    const answers = await Promise.all(frames.map((frame) => this.#flushFrame(frame, visit, timeoutMs)));
    const missing = this.#missing(visit);
    for (const [documentId] of missing) this.#expected.delete(documentId);
    return answers.filter((answered) => !answered).length + missing.filter(([, of]) => !passing(of)).length;
  }

  async #flushFrame(frame: Frame, visit: RunningVisit, timeoutMs: number): Promise<boolean> {
    await frame.settled;
    const owner = this.attribution.owner(frame.facts.tabId);
    if (!("visit" in owner) || owner.visit !== visit || !this.#frames.has(frame)) return true;
    const answered = await Promise.race([
      this.#ask(frame, (serial) => [TO_FLUSH, serial, Math.min(WORKERS_MS, timeoutMs / 2)]).then(() => true),
      new Promise<false>((resolve) => setTimeout(() => resolve(false), timeoutMs)),
    ]);
    return answered;
  }
}
