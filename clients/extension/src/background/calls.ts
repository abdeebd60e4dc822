// Batches of records, of documents and of workers, become rows: stamped with what the browser says of where they come from.
import {
  CALL_STACK, COOKIE_STORE_DELETE, COOKIE_STORE_SET, COOKIE_STRING, LIMITED, MISSING, NOT_A_ROW, NOT_INSTRUMENTED,
  OPERATIONS, STACK_FRAMES, VALUE_CAP, decodeBatch,
} from "../batch";
import type { BatchRecord } from "../batch";
import type { Owner } from "./attribution";
import { cookieRow, parseCookie, parseStoreCall } from "./cookies";
import { JavascriptEncoder } from "./javascript";
import type { DocumentFacts } from "./javascript";
import { recordBytes, unattributed } from "./rows";
import type { Row } from "./rows";
import { isCut } from "./stack";
import { NO_VISIT } from "./streams";
import type { Streams } from "./streams";

export interface Wanted {
  readonly javascript: boolean;
  readonly cookies: boolean;
  readonly limit: number;
}

/** A document or a worker. */
export interface Source {
  readonly facts: DocumentFacts;
  /** The encoded facts; undefined once they have changed. */
  prefix: Uint8Array | undefined;
}

export class Calls {
  readonly #encoder = new JavascriptEncoder();

  constructor(
    readonly streams: Streams,
    readonly wanted: Wanted,
  ) {}

  /** `firstOrdinal`: of the batch's first call in its source. `ofPage`: a stack as the page's own script would have it. */
  batch(from: Source, owner: Owner, firstOrdinal: number, text: string, ofPage?: (stack: string) => string): void {
    const { records, dropped } = decodeBatch(text);
    const last = records.at(-1)?.at ?? 0;
    if (dropped > 0) this.other(owner, last, truncation("javascript", undefined, "page_backlog", dropped, 0, 0, undefined));
    try {
      this.#records(from, owner, firstOrdinal, records, ofPage);
    } finally {
      this.#endRun(owner);
    }
  }

  #records(
    from: Source, owner: Owner, firstOrdinal: number, records: readonly BatchRecord[], ofPage?: (stack: string) => string,
  ): void {
    let ordinal = firstOrdinal;
    for (const told of records) {
      const record = told.stack === undefined || ofPage === undefined ? told : { ...told, stack: ofPage(told.stack) };
      if (this.#report(owner, record)) continue;
      if ((record.flags & NOT_A_ROW) === 0) this.#call(from, owner, record, ordinal++);
      if ((record.flags & CALL_STACK) !== 0 && isCut(record.stack)) {
        this.other(owner, record.at, truncation("javascript", "call_stack", "stack_cap", 1, 0, STACK_FRAMES, record.symbol));
      }
      if (record.cut > 0) this.other(owner, record.at, truncation(tableOf(record), columnOf(record), "value_cap", 1, record.cut, VALUE_CAP, record.symbol));
      this.#cookie(from, owner, record);
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
          this.other(owner, at, truncation("javascript", undefined, value ?? "not_instrumented", 0, 0, 0, symbol));
        }
        return true;
      case LIMITED:
        this.other(owner, at, truncation("javascript", undefined, "symbol_limit", record.cut, 0, this.wanted.limit, symbol));
        return true;
      default: return false;
    }
  }

  #call(from: Source, owner: Owner, record: BatchRecord, ordinal: number): void {
    if (!("visit" in owner)) {
      if (this.wanted.javascript) this.#stray(owner.reason, record.at, strayCall(from.facts, record, ordinal));
      return;
    }
    if (!owner.visit.javascript) return;
    from.prefix ??= this.#encoder.prefix(from.facts);
    if (this.#encoder.add(record, ordinal, from.prefix)) this.#endRun(owner);
  }

  #endRun(owner: Owner): void {
    if (!("visit" in owner)) return;
    const run = this.#encoder.take();
    if (run !== undefined) this.streams.addCalls(owner.visit.visitId, run);
  }

  #cookie(from: Source, owner: Owner, record: BatchRecord): void {
    if (!this.wanted.cookies || ("visit" in owner && !owner.visit.cookies)) return;
    const now = record.at / 1000;
    const store = record.operation === COOKIE_STORE_SET || record.operation === COOKIE_STORE_DELETE;
    if (!store && record.operation !== COOKIE_STRING) return;
    const written = store
      ? parseStoreCall(record.args, record.operation === COOKIE_STORE_DELETE)
      : parseCookie(record.value ?? "", now);
    if (written === undefined) return;
    const { documentUrl, topLevelUrl, tabId, frameId } = from.facts;
    const raw = (store ? record.args : record.value) ?? "";
    const row = cookieRow(written, { url: documentUrl, topLevelUrl, tabId, frameId, at: now, raw });
    this.other(owner, record.at, { case: "javascriptCookie", value: row } as Row);
  }

  /** A row that is no call. */
  other(owner: Owner, at: number, row: Row): void {
    // The stream has its rows in the order of the page.
    this.#endRun(owner);
    if ("visit" in owner) this.streams.add(owner.visit.visitId, recordBytes(at, row));
    else this.#stray(owner.reason, at, row);
  }

  #stray(reason: string, at: number, row: Row): void {
    this.streams.add(NO_VISIT, unattributed(at, row, reason));
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
