// Call sites out of stacks, of both engines.
import { STACK_FRAMES } from "../batch";

export interface CallSite {
  readonly scriptUrl: string;
  readonly line: string;
  readonly column: string;
  readonly funcName: string | undefined;
  /** Where in nested eval code, as "line 10 > eval". */
  readonly locEval: string | undefined;
}

const V8_LOCATION = /^(.*):(\d+):(\d+)$/s;
const NESTED = /^eval at .+? \((eval at .*)\), <anonymous>:\d+:\d+$/s;
const OUTER = /\((eval at .*), <anonymous>:(\d+):\d+\)$/s;
const V8_EVAL = /^eval at (.+?) \((.*)\)$/s;

/** The first frame that has a place; undefined when there is none. */
export const callSiteOf = (stack: string): CallSite | undefined => {
  const lines = stack.split("\n");
  for (const [at, line] of lines.entries()) {
    const site = line.startsWith("    at ") ? v8Frame(line.slice(7), lines[at + 1]) : geckoFrame(line);
    if (site !== undefined) return site;
  }
  return undefined;
};

const v8Frame = (frame: string, below: string | undefined): CallSite | undefined => {
  const open = frame.endsWith(")") ? matchingOpen(frame) : -1;
  const funcName = open > 0 ? functionName(frame.slice(0, open - 1)) : undefined;
  const inside = open >= 0 ? frame.slice(open + 1, -1) : frame.replace(/^async /, "");
  const site = v8Location(inside, funcName);
  if (site?.locEval === undefined || funcName !== "eval" || below === undefined) return site;
  return { ...site, locEval: withCaller(site.locEval, inside, below) };
};

/** V8 does not tell the line of an eval inside eval code; where that is the caller, the frame below does. */
const withCaller = (locEval: string, inside: string, below: string): string => {
  const nested = NESTED.exec(inside);
  const caller = OUTER.exec(below);
  if (nested === null || caller === null || nested[1] !== caller[1]) return locEval;
  return locEval.replace(/ > eval$/, ` line ${caller[2]} > eval`);
};

/** `new Foo` and `async foo` are names of calls; an alias in brackets is kept out. */
const functionName = (text: string): string | undefined => {
  const name = text.replace(/^(async|new) /, "").replace(/ \[as [^\]]*\]$/, "");
  return name === "" || name === "<anonymous>" ? undefined : name;
};

/** The bracket that the last one closes: function names and URLs may hold brackets too. */
const matchingOpen = (frame: string): number => {
  let depth = 0;
  for (let at = frame.length - 1; at >= 0; at--) {
    if (frame[at] === ")") depth++;
    else if (frame[at] === "(" && --depth === 0) return at;
  }
  return -1;
};

const v8Location = (text: string, funcName: string | undefined): CallSite | undefined => {
  if (text.startsWith("eval at ")) {
    const comma = text.lastIndexOf(", ");
    const own = V8_LOCATION.exec(text.slice(comma + 2));
    const origin = comma > 0 ? evalOrigin(text.slice(0, comma)) : undefined;
    if (own === null || origin === undefined) return undefined;
    return { scriptUrl: origin.url, line: own[2] as string, column: own[3] as string, funcName, locEval: origin.loc };
  }
  const match = V8_LOCATION.exec(text);
  if (match === null) return undefined;
  return { scriptUrl: match[1] as string, line: match[2] as string, column: match[3] as string, funcName, locEval: undefined };
};

/** `eval at a (eval at b (url:1:2))`: the file, and the chain outermost first. */
const evalOrigin = (text: string): { url: string; loc: string } | undefined => {
  const inner = V8_EVAL.exec(text)?.[2];
  if (inner === undefined) return undefined;
  if (inner.startsWith("eval at ")) {
    const outer = evalOrigin(inner);
    return outer === undefined ? undefined : { url: outer.url, loc: `${outer.loc} > eval` };
  }
  const own = V8_LOCATION.exec(inner);
  return own === null ? undefined : { url: own[1] as string, loc: `line ${own[2]} > eval` };
};

/** `line 3 > eval`, `> Function`, `> injectedScript`, ...: how the code came to be. */
const GECKO = /^(.*?)@(.*?)((?: line \d+ > [A-Za-z]+)*):(\d+):(\d+)$/s;
/** What began the asynchronous frames, as `promise callback*`. */
const ASYNC_CAUSE = /^[A-Za-z. ]+\*/;

const geckoFrame = (frame: string): CallSite | undefined => {
  const match = GECKO.exec(frame);
  if (match === null) return undefined;
  const [, name, scriptUrl, evals, line, column] = match as unknown as string[];
  return {
    scriptUrl: scriptUrl as string, line: line as string, column: column as string,
    funcName: (name as string).replace(ASYNC_CAUSE, "") || undefined,
    locEval: evals === "" ? undefined : (evals as string).trim(),
  };
};

/** The frames of a stack as they are stored, one a line: without V8's header. */
export const callStackText = (stack: string): string => {
  const start = stack.indexOf("    at ");
  return start < 0 ? stack.trimEnd() : stack.slice(start).split("\n").map((line) => line.trim().replace(/^at /, "")).join("\n");
};

/** Whether a stack was so deep that frames of it are missing. */
export const isCut = (stack: string | undefined): boolean =>
  stack !== undefined && stack.length > STACK_FRAMES && callStackText(stack).split("\n").length >= STACK_FRAMES;
