// Where the records of a document wait until the isolated world has taken them.
//
// The hand-off is synchronous and acknowledged: the isolated listener calls preventDefault. A batch that was not
// acknowledged (its listener met the end of the stack) is kept as it is and offered again under the same serial.
import { DATA, FLUSH } from "../handoff";
import { emptyRaw, encode, microseconds } from "./raw";
import type { Raw } from "./raw";
import type { RecordSink, Shared } from "./shared";
import { CustomEventOf, MessageChannelOf, addListener, dispatch, port1Of, port2Of, postMessage, setOnMessage } from "./primordials";
import { Uses } from "./uses";

/** A message to the background costs as much as a hundred records, so it carries many. */
const BATCH = 1024;
const BATCH_UNITS = 1024 * 1024;
/** Records kept while nobody takes them. */
const BACKLOG = 1 << 18;
/** Wake-ups without progress, before the next record or flush is waited for. */
const RETRIES = 3;
interface Offer {
  readonly text: string;
  readonly raw: Raw;
  readonly count: number;
}

export class Sink implements RecordSink {
  readonly #shared: Shared;
  readonly #window: Window;
  #raw: Raw = emptyRaw();
  #spare: Raw | null = null;
  #count = 0;
  #units = 0;
  #dropped = 0;
  /** Offered and not yet acknowledged. */
  #offered: Offer | null = null;
  #serial = 0;
  #target: EventTarget | null = null;
  #scheduled = false;
  #retries = 0;
  #ending = false;
  readonly #uses = new Uses();
  readonly #wake: MessagePort;

  constructor(shared: Shared, window: Window) {
    this.#shared = shared;
    this.#window = window;
    const channel = new MessageChannelOf();
    setOnMessage(port2Of(channel), this.#onWake);
    this.#wake = port1Of(channel);
    this.listen();
    shared.addSink(this);
  }

  /** The private target to the isolated world of this document. */
  connect(target: EventTarget): void {
    this.#target = target;
    addListener(target, FLUSH, this.#onFlush);
    this.flush();
  }

  /** Whether records given to it now will arrive. */
  get open(): boolean {
    return this.#target !== null && !this.#ending;
  }

  admits(symbol: string, limit: number): boolean {
    if (this.#uses.admit(symbol, limit)) return true;
    if (this.#ending) this.#uses.report(this);
    return false;
  }

  /** Place of the record, for {@link amend}. Throws at the end of the stack, and then nothing is recorded. */
  record(
    symbol: string, operation: number, flags: number, stack: string | null, value: string | null,
    args: string | null, cut: number,
  ): number {
    return this.push(symbol, operation, flags, microseconds(), stack, value, args, cut);
  }

  /** As {@link record}, of a call at a time past. */
  push(
    symbol: string, operation: number, flags: number, time: number, stack: string | null, value: string | null,
    args: string | null, cut: number,
  ): number {
    const raw = this.#raw;
    const at = this.#count;
    if (at >= BACKLOG) {
      this.#dropped++;
      return -1;
    }
    raw.symbols[at] = symbol;
    raw.operations[at] = operation;
    raw.flags[at] = flags;
    raw.times[at] = time;
    raw.stacks[at] = stack;
    raw.values[at] = value;
    raw.args[at] = args;
    raw.cuts[at] = cut;
    this.#units += (value === null ? 0 : value.length) + (args === null ? 0 : args.length);
    this.#count = at + 1;
    const place = this.#serial * BACKLOG + at;
    if (!this.#scheduled) this.#schedule();
    if (this.#ending || this.#count % BATCH === 0 || this.#units >= BATCH_UNITS) this.flush();
    return place;
  }

  /** Changes the operation of a record that is still here; one that has left keeps its first one. */
  amend(place: number, operation: number): void {
    const at = place - this.#serial * BACKLOG;
    if (at >= 0 && at < this.#count) this.#raw.operations[at] = operation;
  }

  /**
   * A document.open() removes the listeners of window and document, so they are added again after it and with every
   * batch; adding a listener that is there changes nothing.
   */
  listen(): void {
    addListener(this.#window, "pagehide", this.#onPageHide, true);
    addListener(this.#window, "pageshow", this.#onPageShow, true);
    addListener(this.#window, "visibilitychange", this.#onVisibility, true);
    this.#shared.listen(this.#window);
  }

  readonly #onWake = (): void => {
    this.#scheduled = false;
    if (this.flush()) this.#retries = 0;
    else if (this.#retries++ < RETRIES) this.#schedule();
  };

  readonly #onPageHide = (): void => {
    this.#ending = true;
    this.#shared.removeSink(this);
    this.#uses.report(this);
    this.flush();
  };

  readonly #onFlush = (): void => {
    this.#uses.report(this);
    this.flush();
  };

  readonly #onPageShow = (): void => {
    if (!this.#ending) return;
    this.#ending = false;
    this.#shared.addSink(this);
  };

  readonly #onVisibility = (): void => {
    this.flush();
  };

  #schedule(): void {
    try {
      this.listen();
      postMessage(this.#wake, 0);
      this.#scheduled = true;
    } catch {
      // The end of the stack: the next record tries again.
    }
  }

  /** Whether nothing is left here. */
  flush(): boolean {
    try {
      if (!this.#offer()) return false;
      if (this.#count === 0) return true;
      this.#encode();
      return this.#offer();
    } catch {
      // The end of the stack: what was not acknowledged is still here.
      return false;
    }
  }

  /** False when there is a batch that nobody took. */
  #offer(): boolean {
    const offered = this.#offered;
    if (offered === null) return true;
    const target = this.#target;
    if (target !== null) {
      const event = new CustomEventOf(DATA, { __proto__: null, cancelable: true, detail: offered.text } as CustomEventInit);
      if (this.#taken(target, event)) {
        this.#offered = null;
        this.#spare = offered.raw;
        return true;
      }
    }
    return this.#ending && this.#pass(offered);
  }

  #taken(target: EventTarget, event: Event): boolean {
    try {
      return !dispatch(target, event);
    } catch (error) {
      // A target of a world that is gone may throw.
      if (this.#ending) return false;
      throw error;
    }
  }

  // The isolated world of this document is gone, as its frame is: another document of the same agent passes its
  // records on.
  #pass({ raw, count }: Offer): boolean {
    const heir = this.#shared.openSink();
    if (heir === null) return false;
    for (let i = 0; i < count; i++) {
      heir.push(
        raw.symbols[i] as string, raw.operations[i] as number, raw.flags[i] as number, raw.times[i] as number,
        raw.stacks[i] as string | null, raw.values[i] as string | null, raw.args[i] as string | null, raw.cuts[i] as number,
      );
    }
    this.#offered = null;
    return true;
  }

  #encode(): void {
    const text = encode(this.#raw, this.#count, this.#dropped);
    const offered = { __proto__: null, text: `${this.#serial + 1}\n${text}`, raw: this.#raw, count: this.#count };
    const next = this.#spare ?? emptyRaw();
    // From here on nothing can fail: a batch is either still raw or offered.
    this.#raw = next;
    this.#spare = null;
    this.#offered = offered;
    this.#serial++;
    this.#count = 0;
    this.#units = 0;
    this.#dropped = 0;
  }
}
