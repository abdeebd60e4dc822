// How often each symbol was used in a document or worker, where that is limited.
import { LIMITED, NOT_A_ROW } from "../batch";
import { safeList, safeMap } from "./primordials";
import type { RecordSink } from "./shared";

interface Use {
  readonly symbol: string;
  recorded: number;
  /** Beyond the limit, and not reported yet. */
  beyond: number;
}

export class Uses {
  readonly #uses = safeMap<string, Use>();
  readonly #beyond: Use[] = safeList();
  #count = 0;

  /** Whether a use of the symbol is to be recorded; one beyond the limit (0: none) is counted. */
  admit(symbol: string, limit: number): boolean {
    if (limit === 0) return true;
    let use = this.#uses.get(symbol);
    if (use === undefined) {
      use = { symbol, recorded: 0, beyond: 0 };
      this.#uses.set(symbol, use);
    }
    if (use.recorded < limit) {
      use.recorded++;
      return true;
    }
    if (use.beyond++ === 0) this.#beyond[this.#count++] = use;
    return false;
  }

  /** Records how many uses went beyond the limit since the last such record. */
  report(sink: RecordSink): void {
    const count = this.#count;
    this.#count = 0;
    for (let i = 0; i < count; i++) {
      const use = this.#beyond[i] as Use;
      const { symbol, beyond } = use;
      use.beyond = 0;
      sink.record(symbol, LIMITED, NOT_A_ROW, null, null, null, beyond);
    }
  }
}
