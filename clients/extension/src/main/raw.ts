// Records as they wait, and the text that they become: see ../batch.ts for its format.
import { NOT_A_ROW } from "../batch";
import { now, round, safeList, safeMap, timeOrigin } from "./primordials";

/** Strings up to this length are sent once a batch. */
const INTERNED = 512;

export interface Raw {
  readonly symbols: string[];
  readonly operations: number[];
  readonly flags: number[];
  readonly times: number[];
  readonly stacks: (string | null)[];
  readonly values: (string | null)[];
  readonly args: (string | null)[];
  readonly cuts: number[];
}

export const emptyRaw = (): Raw => ({
  symbols: safeList(), operations: safeList(), flags: safeList(), times: safeList(), stacks: safeList(),
  values: safeList(), args: safeList(), cuts: safeList(),
});

/** Microseconds since the epoch. */
export const microseconds = (): number => (timeOrigin + now()) * 1000;

export const encode = (raw: Raw, count: number, dropped: number): string => {
  const base = round(raw.times[0] as number);
  const places = safeMap<string, number>();
  let strings = 0;
  let lengths = "";
  let rows = "";
  let heap = "";
  let calls = 0;
  const place = (text: string | null): number => {
    if (text === null) return -1;
    const interned = text.length <= INTERNED;
    if (interned) {
      const known = places.get(text);
      if (known !== undefined) return known;
      places.set(text, strings);
    }
    lengths += strings === 0 ? text.length : `,${text.length}`;
    heap += text;
    return strings++;
  };
  for (let i = 0; i < count; i++) {
    if (((raw.flags[i] as number) & NOT_A_ROW) === 0) calls++;
    const symbol = place(raw.symbols[i] as string);
    const stack = place(raw.stacks[i] as string | null);
    const value = place(raw.values[i] as string | null);
    const args = place(raw.args[i] as string | null);
    rows += `${round((raw.times[i] as number) - base)},${symbol},${raw.operations[i]},${raw.flags[i]},${stack},${value},${args},${raw.cuts[i]}\n`;
  }
  return `${base},${count},${strings},${dropped},${calls}\n${lengths}\n${rows}${heap}`;
};
