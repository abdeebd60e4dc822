// A document's isolated world listens to workers of its origin, which have none: the other end of main/prefix.ts.
import { ACK, ASK, BATCH, END, END_OF, HELLO } from "./handoff";

interface Ear {
  readonly channel: BroadcastChannel;
  /** Workers that answered when they were asked last, or have said something since. */
  readonly there: Set<string>;
}

/** The worker's own name, of a message without its first letter. */
const workerOf = (rest: string): string => /^[^ \n]*/.exec(rest)?.[0] ?? "";

export class Ears {
  readonly #ears = new Map<string, Ear>();
  /** `channel worker` of those whose answer is waited for. */
  readonly #owing = new Map<string, () => void>();
  readonly #hand: (name: string, message: string) => void;
  #word = "";

  /** `hand` is given what workers say. */
  constructor(hand: (name: string, message: string) => void) {
    this.#hand = hand;
  }

  /** Listens to these channels from now on, and has their workers say what they have. */
  listen(names: readonly string[]): void {
    for (const name of names) {
      if (this.#ears.has(name)) continue;
      const ear: Ear = { channel: new BroadcastChannel(name), there: new Set() };
      this.#ears.set(name, ear);
      ear.channel.onmessage = ({ data }: MessageEvent<string>) => this.#hear(name, ear, data);
      ear.channel.postMessage(ASK);
    }
  }

  #hear(name: string, ear: Ear, message: string): void {
    const [kind, rest] = [message[0], message.slice(1)];
    if (kind !== HELLO && kind !== BATCH && kind !== END_OF) return;
    const worker = workerOf(rest);
    ear.there.add(worker);
    if (kind === END_OF) {
      if (rest === `${worker} ${this.#word}`) this.#owing.get(`${name} ${worker}`)?.();
      return;
    }
    this.#hand(name, message);
    if (kind === BATCH) ear.channel.postMessage(`${ACK}${worker} ${rest.slice(worker.length + 1).split(" ", 1)[0] ?? ""}`);
  }

  /** Has all workers hand over what they have. One that does not answer in time has ended, and is not waited for again. */
  async flush(timeoutMs: number): Promise<void> {
    if (this.#ears.size === 0) return;
    this.#word = `${Math.random()}`;
    const answers: Promise<void>[] = [];
    for (const [name, { channel, there }] of this.#ears) {
      for (const worker of there) answers.push(new Promise((resolve) => this.#owing.set(`${name} ${worker}`, resolve)));
      there.clear();
      channel.postMessage(`${END}${this.#word}`);
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, timeoutMs); });
    await Promise.race([Promise.all(answers), late]);
    clearTimeout(timer);
    this.#owing.clear();
  }

  close(): void {
    for (const { channel } of this.#ears.values()) channel.close();
    this.#ears.clear();
  }
}
