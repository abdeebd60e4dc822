// A worker's world on Firefox: the background puts this, as one line, before the worker's own script (the build makes the
// line, which runs once in a worker: modules have it each). Records leave by a BroadcastChannel whose name only
// this text and the isolated worlds of documents have; ../ears.ts is the other end.
import { CHANNEL, INLINED, ONCE } from "../config";
import type { PrefixConfig } from "../config";
import { ACK, ASK, BATCH, END, END_OF, HELLO } from "../handoff";
import { addListener, descriptorOf, preventDefault, safeList, slice, stopImmediate, uncurry } from "./primordials";
import { hookScope } from "./scope";
import { TaskSink } from "./tasks";

const channelPrototype = BroadcastChannel.prototype;
const post = uncurry(channelPrototype.postMessage as (this: BroadcastChannel, message: unknown) => void);
const setOnChannel = uncurry(descriptorOf(channelPrototype, "onmessage")?.set as (this: BroadcastChannel, handler: unknown) => void);
const dataOfMessage = uncurry(descriptorOf(MessageEvent.prototype, "data")?.get as (this: MessageEvent) => unknown);

/** UTF-16 units of batches that nobody has taken: then they are dropped, and counted. */
const BACKLOG_UNITS = 32 * 1024 * 1024;

interface Waiting {
  readonly serial: number;
  readonly message: string;
}

/** Keeps batches until somebody says that they are taken: the document that listens may go, and another come. */
class Wire {
  readonly #channel = new BroadcastChannel(CHANNEL);
  readonly #worker: string;
  readonly #sink: TaskSink;
  readonly #waiting = safeList<Waiting>();
  readonly #url = `${location.href}`;
  /** Those of the waiting that are posted. */
  #posted = 0;
  #serial = 0;
  #calls = 0;
  #units = 0;

  constructor() {
    const [a, b] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
    this.#worker = `${a}.${b}`;
    this.#sink = new TaskSink(this.#send, false);
    setOnChannel(this.#channel, this.#onMessage);
  }

  get sink(): TaskSink {
    return this.#sink;
  }

  hello(): void {
    post(this.#channel, `${HELLO}${this.#worker}\n${this.#url}`);
  }

  readonly #send = (text: string, records: number, calls: number): void => {
    const first = this.#calls;
    this.#calls += calls;
    if (this.#units + text.length > BACKLOG_UNITS) {
      this.#sink.dropped(records);
      return;
    }
    const serial = ++this.#serial;
    const message = `${BATCH}${this.#worker} ${serial} ${first}\n${text}`;
    this.#units += message.length;
    this.#waiting[this.#waiting.length] = { __proto__: null, serial, message } as Waiting;
    this.#post();
  };

  #post(): void {
    try {
      for (; this.#posted < this.#waiting.length; this.#posted++) {
        post(this.#channel, (this.#waiting[this.#posted] as Waiting).message);
      }
    } catch {
      // The end of the stack: what was not posted is still here.
    }
  }

  readonly #onMessage = (event: MessageEvent): void => {
    const message = dataOfMessage(event);
    if (typeof message !== "string") return;
    const kind = message[0];
    const rest = slice(message, 1);
    if (kind === ACK) this.#taken(rest);
    else if (kind === ASK) {
      this.hello();
      this.#posted = 0;
      this.#post();
    } else if (kind === END) {
      this.#sink.flush();
      this.#post();
      post(this.#channel, `${END_OF}${this.#worker} ${rest}`);
    }
  };

  #taken(which: string): void {
    const waiting = this.#waiting;
    for (let i = 0; i < waiting.length; i++) {
      const { serial, message } = waiting[i] as Waiting;
      if (`${this.#worker} ${serial}` !== which) continue;
      this.#units -= message.length;
      if (i < this.#posted) this.#posted--;
      for (let k = i + 1; k < waiting.length; k++) waiting[k - 1] = waiting[k] as Waiting;
      waiting.length--;
      return;
    }
  }
}

const { targets, limit } = JSON.parse(INLINED) as PrefixConfig;
addListener(globalThis, ONCE, (event: Event) => {
  stopImmediate(event);
  preventDefault(event);
}, true);
const wire = new Wire();
hookScope({ targets, limit, sink: wire.sink, ends: true });
wire.hello();
