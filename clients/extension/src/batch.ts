// A batch of records as one string: the only thing that crosses from the page's world to the isolated one.
//
//   base,records,strings,dropped,calls \n lengths of the strings, comma-joined \n one line a record \n the strings, joined
//   record: microseconds after base,symbol,operation,flags,stack,value,arguments,cut units
//
// calls: those of the records that are rows of `javascript`. symbol, stack, value and arguments are places in the string table; -1 is none. The encoder of this format is
// `main/sink.ts`, which may use captured natives only; this side runs in the background.

/** Of the rows. */
export const OPERATIONS = [
  "call", "get", "set", "get(failed)", "set(failed)", "get(function)", "set(prevented)",
] as const;
export const CALL = 0;
export const GET = 1;
export const SET = 2;
export const GET_FAILED = 3;
export const SET_FAILED = 4;
export const GET_FUNCTION = 5;
export const SET_PREVENTED = 6;
// The others are no rows of calls.
export const COOKIE_STORE_SET = 7;
export const COOKIE_STORE_DELETE = 8;
export const COOKIE_STRING = 9;
/** A target of the settings that the document has not; the value says why. */
export const MISSING = 10;
/** A property that was asked for by name and cannot be instrumented. */
export const NOT_INSTRUMENTED = 11;
/** So many calls (the cut units) of the symbol beyond the limit since the last such record. */
export const LIMITED = 12;

/** The page's stack settings kept the call site from being read. */
export const TAMPERED = 1;
/** The whole stack is to be stored. */
export const CALL_STACK = 2;
/** Not a row of `javascript`. */
export const NOT_A_ROW = 4;

/** Frames of a whole stack; deeper ones are cut, and say so. */
export const STACK_FRAMES = 500;
/** UTF-16 units of one value or argument list; longer ones are cut, and say so. */
export const VALUE_CAP = 2 * 1024 * 1024;

export interface BatchRecord {
  readonly symbol: string;
  readonly operation: number;
  readonly flags: number;
  /** Microseconds since the epoch. */
  readonly at: number;
  readonly stack: string | undefined;
  readonly value: string | undefined;
  readonly args: string | undefined;
  /** UTF-16 units cut off value and arguments. */
  readonly cut: number;
  /** The same for all records of the batch that differ in their time only. */
  readonly kind: string;
}

export interface Batch {
  readonly records: readonly BatchRecord[];
  /** Records that found no room in the page before these. */
  readonly dropped: number;
}

const MINUS = 45;
const ZERO = 48;

/** Reads numbers, each with the one character after it. */
class Numbers {
  constructor(
    readonly text: string,
    public at: number,
  ) {}

  next(): number {
    const { text } = this;
    const negative = text.charCodeAt(this.at) === MINUS;
    if (negative) this.at++;
    let value = 0;
    for (;;) {
      const digit = text.charCodeAt(this.at++) - ZERO;
      // At the end of the text it is NaN.
      if (!(digit >= 0 && digit <= 9)) return negative ? -value : value;
      value = value * 10 + digit;
    }
  }
}

/** Throws on a batch that is not one: that is a bug, as pages cannot reach the channel. */
export const decodeBatch = (text: string): Batch => {
  const first = text.indexOf("\n");
  const second = text.indexOf("\n", first + 1);
  const [base, count, strings, dropped] = text.slice(0, first).split(",").map(Number) as [number, number, number, number, number];
  const rows = endOfLines(text, second + 1, count);
  const table = stringsOf(text, rows, text.slice(first + 1, second).split(","), strings);
  const string = (place: number): string | undefined => (place < 0 ? undefined : table[place]);
  const numbers = new Numbers(text, second + 1);
  const records: BatchRecord[] = [];
  for (let row = 0; row < count; row++) {
    const at = base + numbers.next();
    const start = numbers.at;
    const symbol = string(numbers.next()) as string;
    const operation = numbers.next();
    const flags = numbers.next();
    const stack = string(numbers.next());
    const value = string(numbers.next());
    const args = string(numbers.next());
    const cut = numbers.next();
    records.push({ symbol, operation, flags, at, stack, value, args, cut, kind: text.slice(start, numbers.at) });
  }
  if (numbers.at !== rows) throw new Error(`batch has ${rows - numbers.at} units more than its ${count} records`);
  return { records, dropped };
};

/** Where so many lines end. */
const endOfLines = (text: string, start: number, count: number): number => {
  let at = start;
  for (let row = 0; row < count; row++) {
    const end = text.indexOf("\n", at);
    if (end < 0) throw new Error(`batch ends in record ${row} of ${count}`);
    at = end + 1;
  }
  return at;
};

const stringsOf = (text: string, start: number, lengths: readonly string[], count: number): string[] => {
  const table: string[] = [];
  let at = start;
  for (let index = 0; index < count; index++) {
    const length = Number(lengths[index]);
    table.push(text.slice(at, at + length));
    at += length;
  }
  if (at !== text.length) throw new Error(`batch has ${text.length - at} units after its strings`);
  return table;
};
