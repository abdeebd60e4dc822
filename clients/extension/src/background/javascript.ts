// Rows of `javascript`: sonde.record.v1.JavascriptCalls, encoded by hand.
import { CALL_STACK, OPERATIONS, TAMPERED } from "../batch";
import type { BatchRecord } from "../batch";
import { callSiteOf, callStackText } from "./stack";
import { Writer } from "./wire";

/** Field numbers of sonde.record.v1.JavascriptCalls. */
const TEMPLATES = 1;
const TEMPLATE = 2;
const AFTER_US = 3;
const FIRST_ORDINAL = 4;
const CAPTURED_AT_US = 5;

/** Calls of one run, and bytes of its templates. */
const RUN_CALLS = 1024;
const RUN_BYTES = 4 * 1024 * 1024;

/** What the browser says of the document that a record comes from. */
export interface DocumentFacts {
  readonly incognito: boolean;
  readonly windowId: number | undefined;
  readonly tabId: number;
  readonly frameId: number;
  readonly documentId: string | undefined;
  documentUrl: string | undefined;
  topLevelUrl: string | undefined;
}

/** Encoded stacks and strings kept; then forgotten together. */
const CACHED = 4096;
const CACHED_UNITS = 512;

/** An encoded sonde.record.v1.JavascriptCalls; valid until the next is taken. */
export interface Run {
  readonly bytes: Uint8Array;
  readonly count: number;
}

/** Makes runs of the calls of one batch of one document. */
export class JavascriptEncoder {
  readonly #row = new Writer();
  readonly #piece = new Writer();
  readonly #templates = new Writer(16 * 1024);
  readonly #places = new Writer();
  readonly #times = new Writer();
  readonly #run = new Writer(16 * 1024);
  readonly #sites = new Map<string, Uint8Array>();
  readonly #stacks = new Map<string, Uint8Array>();
  readonly #symbols = new Map<string, Uint8Array>();
  /** Kind of a record to its template's place, in this run. */
  readonly #known = new Map<string, number>();
  #count = 0;
  #first = 0;
  #base = 0;

  /** The fields that all records of a document share. */
  prefix(facts: DocumentFacts): Uint8Array {
    const piece = this.#piece;
    piece.reset();
    if (facts.incognito) piece.integer(1, 1);
    if (facts.windowId !== undefined) piece.integer(3, facts.windowId);
    piece.integer(4, facts.tabId);
    piece.integer(5, facts.frameId);
    if (facts.documentUrl !== undefined) piece.text(11, facts.documentUrl);
    if (facts.topLevelUrl !== undefined) piece.text(12, facts.topLevelUrl);
    if (facts.documentId !== undefined) piece.text(18, facts.documentId);
    return piece.copy();
  }

  /** Adds a call to the run; whether the run is to be taken before the next. Ordinals of one run follow each other. */
  add(record: BatchRecord, ordinal: number, prefix: Uint8Array): boolean {
    const at = Math.round(record.at);
    if (this.#count === 0) {
      this.#first = ordinal;
      this.#base = at;
    }
    let place = this.#known.get(record.kind);
    if (place === undefined) {
      place = this.#known.size;
      this.#known.set(record.kind, place);
      this.#templates.message(TEMPLATES, this.#template(record, prefix));
    }
    this.#places.varint(place);
    this.#times.zigzag(at - this.#base);
    return ++this.#count >= RUN_CALLS || this.#templates.length >= RUN_BYTES;
  }

  /** Ends the run; undefined when it is empty. */
  take(): Run | undefined {
    const count = this.#count;
    if (count === 0) return undefined;
    const run = this.#run;
    run.reset();
    run.raw(this.#templates.view());
    run.message(TEMPLATE, this.#places.view());
    run.message(AFTER_US, this.#times.view());
    run.integer(FIRST_ORDINAL, this.#first);
    run.integer(CAPTURED_AT_US, this.#base);
    this.#templates.reset();
    this.#places.reset();
    this.#times.reset();
    this.#known.clear();
    this.#count = 0;
    return { bytes: run.view(), count };
  }

  #template(record: BatchRecord, prefix: Uint8Array): Uint8Array {
    const row = this.#row;
    row.reset();
    row.raw(prefix);
    if (record.stack !== undefined) {
      row.raw(this.#cached(this.#sites, record.stack, this.#site));
      if ((record.flags & CALL_STACK) !== 0) row.raw(this.#cached(this.#stacks, record.stack, this.#callStack));
    }
    row.raw(this.#cached(this.#symbols, record.symbol, this.#symbol));
    row.text(15, OPERATIONS[record.operation] ?? "call");
    if (record.value !== undefined) row.text(16, record.value);
    if (record.args !== undefined) row.text(17, record.args);
    if ((record.flags & TAMPERED) !== 0) row.integer(19, 1);
    return row.view();
  }

  #cached(cache: Map<string, Uint8Array>, key: string, make: (key: string) => void): Uint8Array {
    const known = cache.get(key);
    if (known !== undefined) return known;
    this.#piece.reset();
    make(key);
    const made = this.#piece.copy();
    if (cache.size >= CACHED) cache.clear();
    if (key.length <= CACHED_UNITS * 8) cache.set(key, made);
    return made;
  }

  readonly #site = (stack: string): void => {
    const site = callSiteOf(stack);
    if (site === undefined) return;
    this.#piece.text(6, site.scriptUrl);
    this.#piece.text(7, site.line);
    this.#piece.text(8, site.column);
    if (site.funcName !== undefined) this.#piece.text(9, site.funcName);
    if (site.locEval !== undefined) this.#piece.text(10, site.locEval);
  };

  readonly #callStack = (stack: string): void => this.#piece.text(13, callStackText(stack));

  readonly #symbol = (symbol: string): void => this.#piece.text(14, symbol);
}
