// Stacks of workers as their own scripts would have them: what was put before the first line is not there.
import { callSiteOf } from "../stack";

/** Stacks kept; then forgotten together. */
const CACHED = 4096;
const CACHED_UNITS = 4096;

/** URL of a script to the columns by which its first line moved. */
export type Moved = Map<string, number>;

const plain = (url: string): string => url.split("#", 1)[0] as string;

/** The frame without our columns; undefined for a frame of ours. */
const original = (frame: string, moved: Moved): string | undefined => {
  if (!/:1:\d+$/.test(frame)) return frame;
  const site = callSiteOf(frame);
  const columns = site === undefined || site.locEval !== undefined ? undefined : moved.get(plain(site.scriptUrl));
  if (columns === undefined) return frame;
  const column = Number(site?.column);
  return column > columns ? `${frame.slice(0, frame.lastIndexOf(":") + 1)}${column - columns}` : undefined;
};

export class Stacks {
  readonly #moved: Moved = new Map();
  readonly #known = new Map<string, string>();

  /** What was put before a script. */
  note(url: string, columns: number): void {
    this.#moved.set(plain(url), columns);
    this.#known.clear();
  }

  readonly original = (stack: string): string => {
    const known = this.#known.get(stack);
    if (known !== undefined) return known;
    const made = stack.split("\n").map((frame) => original(frame, this.#moved)).filter((frame) => frame !== undefined).join("\n");
    if (this.#known.size >= CACHED) this.#known.clear();
    if (stack.length <= CACHED_UNITS) this.#known.set(stack, made);
    return made;
  };
}
