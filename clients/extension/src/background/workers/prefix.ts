// The hooks of one worker, put before the first line of a script on its way to the browser.
import type { StreamFilter } from "../network/details";
import { beginning } from "./prologue";

const BOM = [0xef, 0xbb, 0xbf];
const encoder = new TextEncoder();

type Piece = ArrayBuffer | Uint8Array;

const joined = (parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

export class Prefix {
  #held: Uint8Array[] = [];
  #done = false;
  readonly #script: string;
  readonly #written: (columns: number) => void;

  /** `script`: one line of ASCII. `written` is told the columns by which the first line moves, once they are known. */
  constructor(script: string, written: (columns: number) => void) {
    this.#script = script;
    this.#written = written;
  }

  /** It is written, and whatever follows is the script's own. */
  get done(): boolean {
    return this.#done;
  }

  /** What the browser gets in the place of a part of the script: nothing while it is not clear how the script begins. */
  take(data: ArrayBuffer): readonly Piece[] {
    if (this.#done) return [data];
    this.#held.push(new Uint8Array(data));
    return this.#decide(false);
  }

  /** What it gets at the end. */
  end(): readonly Piece[] {
    return this.#done || this.#held.length === 0 ? [] : this.#decide(true);
  }

  #decide(whole: boolean): readonly Piece[] {
    const first = joined(this.#held);
    const how = beginning(new TextDecoder("utf-8", { ignoreBOM: true }).decode(first), whole);
    if (how === undefined) {
      this.#held = [first];
      return [];
    }
    this.#done = true;
    this.#held = [];
    const mark = BOM.every((byte, at) => first[at] === byte) ? BOM.length : 0;
    const text = `${how.strict ? "'use strict';" : ""}${this.#script}${how.comment ? "//" : ""}`;
    this.#written(text.length);
    return [first.subarray(0, mark), encoder.encode(text), first.subarray(mark)].filter(({ length }) => length > 0);
  }
}

/** Writes a prefix into a response that nobody else filters. */
export const writeThrough = (filter: StreamFilter, prefix: Prefix): void => {
  const write = (pieces: readonly Piece[]): void => {
    for (const piece of pieces) filter.write(piece);
  };
  filter.ondata = ({ data }) => {
    write(prefix.take(data));
    if (prefix.done) filter.disconnect();
  };
  filter.onstop = () => {
    write(prefix.end());
    filter.close();
  };
};
