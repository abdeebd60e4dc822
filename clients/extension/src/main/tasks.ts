// Where the records of a realm wait that has a function of the browser's to take text out, and no isolated world beside it.
import { NOT_A_ROW } from "../batch";
import { isWellFormed, microtask, slice, stringify } from "./primordials";
import { emptyRaw, encode, microseconds } from "./raw";
import type { RecordSink } from "./shared";
import { Uses } from "./uses";

/** A message costs as much as ten records. */
const BATCH = 256;
const BATCH_UNITS = 1024 * 1024;

/** A lone surrogate has no UTF-8: it is written as JSON writes it, as the background does for documents. */
const plain = (text: string | null): string | null => {
  if (text === null || isWellFormed(text)) return text;
  let out = "";
  for (let i = 0; i < text.length; i++) {
    const unit = slice(text, i, i + 1);
    const pair = slice(text, i, i + 2);
    if (isWellFormed(unit)) out += unit;
    else if (pair.length === 2 && isWellFormed(pair)) {
      out += pair;
      i++;
    } else out += slice(stringify(unit), 1, -1);
  }
  return out;
};

/** Takes a batch, with the numbers of its records and of those that are rows of calls. */
export type Send = (text: string, records: number, calls: number) => void;

/** Hands records over at the end of each task, or sooner when there are many: a realm may be ended at any moment. */
export class TaskSink implements RecordSink {
  #send: Send | null;
  readonly #uses = new Uses();
  #raw = emptyRaw();
  #count = 0;
  #calls = 0;
  #units = 0;
  #first = 0;
  #dropped = 0;
  #scheduled = false;

  /**
   * `send`: takes text out of the realm; null: it is not there yet. `promptly`: every record at once, where the realm
   * may go within a task, and with it what is left to do at its end.
   */
  constructor(send: Send | null, readonly promptly: boolean) {
    this.#send = send;
  }

  /** From here on records leave, and those that wait at once. */
  connect(send: Send): void {
    this.#send = send;
    this.flush();
  }

  admits(symbol: string, limit: number): boolean {
    if (this.#uses.admit(symbol, limit)) return true;
    if (this.promptly) this.#uses.report(this);
    else this.#schedule();
    return false;
  }

  record(
    symbol: string, operation: number, flags: number, stack: string | null, value: string | null, args: string | null,
    cut: number,
  ): number {
    const raw = this.#raw;
    const at = this.#count;
    raw.symbols[at] = plain(symbol) ?? "";
    raw.operations[at] = operation;
    raw.flags[at] = flags;
    raw.times[at] = microseconds();
    raw.stacks[at] = plain(stack);
    raw.values[at] = plain(value);
    raw.args[at] = plain(args);
    raw.cuts[at] = cut;
    this.#units += (value === null ? 0 : value.length) + (args === null ? 0 : args.length);
    this.#count = at + 1;
    if ((flags & NOT_A_ROW) === 0) this.#calls++;
    const place = this.#first + at;
    if (this.promptly || this.#count >= BATCH || this.#units >= BATCH_UNITS) this.#flush();
    else this.#schedule();
    return place;
  }

  amend(place: number, operation: number): void {
    const at = place - this.#first;
    if (at >= 0 && at < this.#count) this.#raw.operations[at] = operation;
  }

  /** So many records found no room: the next batch says it. */
  dropped(records: number): void {
    this.#dropped += records;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void microtask(this.#onMicrotask);
  }

  readonly #onMicrotask = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  /** Hands over what there is. */
  flush(): void {
    this.#uses.report(this);
    this.#flush();
  }

  #flush(): void {
    const count = this.#count;
    const send = this.#send;
    if (count === 0 || send === null) return;
    const text = encode(this.#raw, count, this.#dropped);
    const calls = this.#calls;
    this.#raw = emptyRaw();
    this.#first += count;
    this.#count = 0;
    this.#calls = 0;
    this.#units = 0;
    this.#dropped = 0;
    send(text, count, calls);
  }
}
