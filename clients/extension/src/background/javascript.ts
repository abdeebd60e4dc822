// Rows of `javascript`: sonde.record.v1.JavascriptCall inside a Record, encoded by hand.
import { CALL_STACK, OPERATIONS, TAMPERED } from "../batch";
import type { BatchRecord } from "../batch";
import { callSiteOf, callStackText } from "./stack";
import { Writer } from "./wire";

/** Field numbers of sonde.record.v1. */
const RECORD_CAPTURED_AT = 1;
const RECORD_JAVASCRIPT = 20;

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

export class JavascriptEncoder {
  readonly #row = new Writer();
  readonly #record = new Writer();
  readonly #piece = new Writer();
  readonly #sites = new Map<string, Uint8Array>();
  readonly #stacks = new Map<string, Uint8Array>();
  readonly #symbols = new Map<string, Uint8Array>();

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

  /** An encoded sonde.record.v1.Record; valid until the next call. */
  encode(record: BatchRecord, ordinal: number, prefix: Uint8Array): Uint8Array {
    const row = this.#row;
    row.reset();
    row.raw(prefix);
    row.integer(2, ordinal);
    if (record.stack !== undefined) {
      row.raw(this.#cached(this.#sites, record.stack, this.#site));
      if ((record.flags & CALL_STACK) !== 0) row.raw(this.#cached(this.#stacks, record.stack, this.#callStack));
    }
    row.raw(this.#cached(this.#symbols, record.symbol, this.#symbol));
    row.text(15, OPERATIONS[record.operation] ?? "call");
    if (record.value !== undefined) row.text(16, record.value);
    if (record.args !== undefined) row.text(17, record.args);
    if ((record.flags & TAMPERED) !== 0) row.integer(19, 1);
    const out = this.#record;
    out.reset();
    out.integer(RECORD_CAPTURED_AT, Math.round(record.at));
    out.message(RECORD_JAVASCRIPT, row.view());
    return out.view();
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
