// A batch of records as one string: the only thing that crosses from the page's world to the isolated one.
//
//   base,records,strings,dropped,calls \n lengths of the strings, comma-joined \n one line a record \n the strings, joined
//   record: symbol,operation,flags,microseconds after base,stack,value,arguments,cut units
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
}

export interface Batch {
  readonly records: readonly BatchRecord[];
  /** Records that found no room in the page before these. */
  readonly dropped: number;
}

/** Throws on a batch that is not one: that is a bug, as pages cannot reach the channel. */
export const decodeBatch = (text: string): Batch => {
  const first = text.indexOf("\n");
  const second = text.indexOf("\n", first + 1);
  const [base, count, strings, dropped] = text.slice(0, first).split(",").map(Number) as [number, number, number, number, number];
  const lengths = text.slice(first + 1, second).split(",");
  const rows: string[] = [];
  let at = second + 1;
  for (let row = 0; row < count; row++) {
    const end = text.indexOf("\n", at);
    if (end < 0) throw new Error(`batch ends in record ${row} of ${count}`);
    rows.push(text.slice(at, end));
    at = end + 1;
  }
  const table: string[] = [];
  for (let index = 0; index < strings; index++) {
    const length = Number(lengths[index]);
    table.push(text.slice(at, at + length));
    at += length;
  }
  if (at !== text.length) throw new Error(`batch has ${text.length - at} units after its strings`);
  const records = rows.map((row) => {
    const [symbol, operation, flags, after, stack, value, args, cut] = row.split(",").map(Number) as number[];
    return {
      symbol: table[symbol as number] as string,
      operation: operation as number,
      flags: flags as number,
      at: base + (after as number),
      stack: table[stack as number],
      value: table[value as number],
      args: table[args as number],
      cut: cut as number,
    };
  });
  return { records, dropped };
};
