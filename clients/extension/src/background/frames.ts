// The frames of all tabs: one port each. Their batches become records, stamped with what the browser says of the frame.
import {
  CALL_STACK, COOKIE_STORE_DELETE, COOKIE_STORE_SET, COOKIE_STRING, LIMITED, MISSING, NOT_A_ROW, NOT_INSTRUMENTED,
  OPERATIONS, STACK_FRAMES, VALUE_CAP, decodeBatch,
} from "../batch";
import type { BatchRecord } from "../batch";
import { FROM_BATCH, FROM_FLUSHED, FROM_REFUSED, FROM_STATE } from "../port";
import type { FromFrame, ToFrame } from "../port";
import type { Attribution, Owner, RunningVisit } from "./attribution";
import { cookieRow, parseCookie, parseStoreCall } from "./cookies";
import { JavascriptEncoder } from "./javascript";
import type { DocumentFacts } from "./javascript";
import { recordBytes, unattributed } from "./rows";
import { isCut } from "./stack";
import type { Row } from "./rows";
import { NO_VISIT } from "./streams";
import type { Streams } from "./streams";

/** Messages of a frame whose tab is not settled. */
const HELD = 4096;

/** The most documents whose recorders are waited for. */
const EXPECTED = 4096;

/** How long recorders of documents that were replaced at once are waited for, in milliseconds. */
const REPLACED_MS = 500;

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

interface Frame {
  readonly port: chrome.runtime.Port;
  readonly facts: DocumentFacts;
  prefix: Uint8Array | undefined;
  channel: boolean;
  /** Set while its tab is not settled. */
  held: FromFrame[] | undefined;
  settled: Promise<void>;
  readonly flushes: Map<number, () => void>;
}

export interface Wanted {
  readonly javascript: boolean;
  readonly cookies: boolean;
  readonly limit: number;
}

/** A request that the policy of a document refused before it began. */
export interface Refusal {
  readonly facts: DocumentFacts;
  readonly url: string;
  readonly directive: string;
  /** Microseconds since the epoch. */
  readonly at: number;
}

export class Frames {
  /** Told of what policies refuse. */
  onRefused: ((owner: Owner, refusal: Refusal) => void) | undefined;
  readonly #frames = new Set<Frame>();
  readonly #encoder = new JavascriptEncoder();
  readonly #places = new Map<number, Place>();
  readonly #placeWaiters = new Map<number, Set<() => void>>();
  /** By document id. */
  readonly #expected = new Map<string, Expected>();
  /** Woken when one has. */
  readonly #shownUp = new Set<() => void>();
  #serial = 0;

  constructor(
    readonly attribution: Attribution,
    readonly streams: Streams,
    readonly wanted: Wanted,
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
      port, facts, prefix: undefined, channel: false, held: known ? undefined : [], settled: Promise.resolve(), flushes: new Map(),
    };
    this.#frames.add(frame);
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
      for (const done of frame.flushes.values()) done();
    });
  }

  async #settle(frame: Frame): Promise<void> {
    await this.attribution.settle(frame.facts.tabId);
    const held = frame.held ?? [];
    frame.held = undefined;
    for (const message of held) this.#receive(frame, message);
  }

  #receive(frame: Frame, message: FromFrame): void {
    if (message[0] === FROM_BATCH) this.#batch(frame, message[1], message[2]);
    else if (message[0] === FROM_FLUSHED) frame.flushes.get(message[1])?.();
    else if (message[0] === FROM_REFUSED) {
      const [, url, directive, at] = message;
      this.onRefused?.(this.attribution.owner(frame.facts.tabId), { facts: frame.facts, url, directive, at: at * 1000 });
    }
    else {
      frame.channel = message[1];
      if (frame.channel && frame.facts.documentId !== undefined && this.#expected.delete(frame.facts.documentId)) {
        for (const wake of this.#shownUp) wake();
      }
    }
  }

  #batch(frame: Frame, firstOrdinal: number, text: string): void {
    const { records, dropped } = decodeBatch(text);
    const owner = this.attribution.owner(frame.facts.tabId);
    const last = records.at(-1)?.at ?? 0;
    if (dropped > 0) this.#other(owner, last, truncation("javascript", undefined, "page_backlog", dropped, 0, 0, undefined));
    let ordinal = firstOrdinal;
    for (const record of records) {
      if (this.#report(owner, record)) continue;
      if ((record.flags & NOT_A_ROW) === 0) this.#call(frame, owner, record, ordinal++);
      if ((record.flags & CALL_STACK) !== 0 && isCut(record.stack)) {
        this.#other(owner, record.at, truncation("javascript", "call_stack", "stack_cap", 1, 0, STACK_FRAMES, record.symbol));
      }
      if (record.cut > 0) this.#other(owner, record.at, truncation(tableOf(record), columnOf(record), "value_cap", 1, record.cut, VALUE_CAP, record.symbol));
      this.#cookie(frame, owner, record);
    }
  }

  /** Whether it is a record about the recording. */
  #report(owner: Owner, record: BatchRecord): boolean {
    const { symbol, value, at } = record;
    switch (record.operation) {
      case MISSING:
        if ("visit" in owner) owner.visit.missingTargets.set(symbol, value === "insecure");
        return true;
      case NOT_INSTRUMENTED:
        if ("visit" in owner && !owner.visit.notInstrumented.has(symbol)) {
          owner.visit.notInstrumented.add(symbol);
          this.#other(owner, at, truncation("javascript", undefined, value ?? "not_instrumented", 0, 0, 0, symbol));
        }
        return true;
      case LIMITED:
        this.#other(owner, at, truncation("javascript", undefined, "symbol_limit", record.cut, 0, this.wanted.limit, symbol));
        return true;
      default: return false;
    }
  }

  #call(frame: Frame, owner: Owner, record: BatchRecord, ordinal: number): void {
    if (!("visit" in owner)) {
      if (this.wanted.javascript) this.#stray(owner.reason, record.at, strayCall(frame.facts, record, ordinal));
      return;
    }
    if (!owner.visit.javascript) return;
    frame.prefix ??= this.#encoder.prefix(frame.facts);
    this.streams.add(owner.visit.visitId, this.#encoder.encode(record, ordinal, frame.prefix));
  }

  #cookie(frame: Frame, owner: Owner, record: BatchRecord): void {
    if (!this.wanted.cookies || ("visit" in owner && !owner.visit.cookies)) return;
    const now = record.at / 1000;
    const store = record.operation === COOKIE_STORE_SET || record.operation === COOKIE_STORE_DELETE;
    if (!store && record.operation !== COOKIE_STRING) return;
    const written = store
      ? parseStoreCall(record.args, record.operation === COOKIE_STORE_DELETE)
      : parseCookie(record.value ?? "", now);
    if (written === undefined) return;
    const { documentUrl, topLevelUrl, tabId, frameId } = frame.facts;
    const raw = (store ? record.args : record.value) ?? "";
    const row = cookieRow(written, { url: documentUrl, topLevelUrl, tabId, frameId, at: now, raw });
    this.#other(owner, record.at, { case: "javascriptCookie", value: row } as Row);
  }

  #other(owner: Owner, at: number, row: Row): void {
    if ("visit" in owner) this.streams.add(owner.visit.visitId, recordBytes(at, row));
    else this.#stray(owner.reason, at, row);
  }

  #stray(reason: string, at: number, row: Row): void {
    this.streams.add(NO_VISIT, unattributed(at, row, reason));
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
    if (!this.wanted.javascript || !("visit" in owner) || !owner.visit.javascript) return;
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
    const serial = ++this.#serial;
    const answered = await new Promise<boolean>((resolve) => {
      frame.flushes.set(serial, () => resolve(true));
      setTimeout(() => resolve(false), timeoutMs);
      frame.port.postMessage([serial] satisfies ToFrame);
    });
    frame.flushes.delete(serial);
    return answered;
  }
}

const tableOf = ({ flags }: BatchRecord): string => ((flags & NOT_A_ROW) === 0 ? "javascript" : "javascript_cookies");

const columnOf = (record: BatchRecord): string => (record.args === undefined ? "value" : "arguments");

export const truncation = (
  tableName: string, columnName: string | undefined, reason: string, rows: number, bytes: number, limit: number,
  subject: string | undefined,
): Row => ({
  case: "truncation",
  value: {
    tableName, reason, droppedRows: BigInt(rows), droppedBytes: BigInt(bytes), limitValue: BigInt(limit),
    ...(columnName === undefined ? {} : { columnName }), ...(subject === undefined ? {} : { subject }),
  },
} as Row);

const strayCall = (facts: DocumentFacts, record: BatchRecord, ordinal: number): Row => ({
  case: "javascript",
  value: {
    incognito: facts.incognito, pageScopedEventOrdinal: BigInt(ordinal), tabId: BigInt(facts.tabId), frameId: BigInt(facts.frameId),
    symbol: record.symbol, operation: OPERATIONS[record.operation] ?? "call",
    ...(facts.documentUrl === undefined ? {} : { documentUrl: facts.documentUrl }),
    ...(facts.topLevelUrl === undefined ? {} : { topLevelUrl: facts.topLevelUrl }),
    ...(record.value === undefined ? {} : { value: record.value }), ...(record.args === undefined ? {} : { arguments: record.args }),
  },
} as Row);
