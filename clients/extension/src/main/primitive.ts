// The one thing in which capture modes differ: what stands in the place of a native, and in which world it runs.
import type { Recorded, Replaced } from "./shared";

export type Native = (this: unknown, ...args: unknown[]) => unknown;
export type Apply = (target: Native, self: unknown, args: unknown[]) => unknown;
export type Construct = (target: Native, args: unknown[], newTarget: object) => object;

export interface Accessors {
  readonly get: Native;
  readonly set: Native;
}

export interface Primitive {
  /** What the page has in the place of `native`. `construct` runs when it is one of `new`, and may be left out of methods. */
  wrap(realm: Recorded, native: Native, apply: Apply, construct?: Construct): Native;
  /** As `wrap`, of what is not recorded: `apply` gives the native what it gets, and looks at none of it. */
  pass(realm: Recorded, native: Native, apply: Apply): Native;
  /** The accessors of a property that we keep ourselves. */
  accessors(realm: Recorded, property: string, get: (self: unknown) => unknown, set: (self: unknown, given: unknown) => void): Accessors;
  /** Whether `Function.prototype.toString` has to be answered for by now. */
  masks(): boolean;
  /** The page's frames below `trap`; null where the page made that impossible. */
  callSite(trap: unknown, long: boolean): string | null;
  /** What the page is to catch. */
  thrown(error: unknown, trap: unknown): unknown;
  /** The form in which an object of the page is known: one identity for each. */
  held<T>(value: T): T;
  /** A function of ours for the page to call. */
  offered<A>(realm: Recorded, run: (argument: A) => void): unknown;
  /** A TypeError of the page's. */
  typeError(realm: Recorded, message: string): unknown;
  /** A list for what is replaced in a realm whose hooks will not last as long as it; null: they will. */
  lent(global: object): Replaced[] | null;
  /** Puts it back, and has our functions that the page still holds do without the realm. */
  giveBack(replaced: readonly Replaced[]): void;
  /** Whether a document's hooks share nothing with those of its neighbours, but hook the frames below it themselves. */
  readonly apart: boolean;
}
