// How a script begins, as far as that changes what may be put before it on its first line.

export interface Beginning {
  /** Its directives have `use strict`, which has to stay the first thing. */
  readonly strict: boolean;
  /** It begins with a comment that is one only at the beginning of a line. */
  readonly comment: boolean;
}

const SPACE = /[\s\ufeff]*/y;
const LITERAL = /"(?:[^"\\\n\r]|\\(?:\r\n|[^]))*"|'(?:[^'\\\n\r]|\\(?:\r\n|[^]))*'/y;
const BREAK = /[\n\r\u2028\u2029]/;
/** Goes on with the expression that a string on the line before began. */
const GOES_ON = /^(?:[.,([`+\-*/%?:=<>&|^]|!=|in(?:stanceof)?\b)/;

/** Place after white space and comments; undefined where the text ends within them. */
const afterSpace = (text: string, from: number): number | undefined => {
  for (let at = from;;) {
    SPACE.lastIndex = at;
    at += SPACE.exec(text)?.[0].length ?? 0;
    const two = text.slice(at, at + 2);
    if (two.length < 2 && (two === "" || two === "/")) return undefined;
    if (two === "//") {
      const rest = text.slice(at).search(BREAK);
      if (rest < 0) return undefined;
      at += rest;
    } else if (two === "/*") {
      const end = text.indexOf("*/", at + 2);
      if (end < 0) return undefined;
      at = end + 2;
    } else return at;
  }
};

/** Whether a statement ends between the two places. */
const ends = (text: string, from: number, to: number): boolean => {
  const next = text[to];
  return next === ";" || next === "}" || (BREAK.test(text.slice(from, to)) && !GOES_ON.test(text.slice(to, to + 11)));
};

/** Undefined: the first part of the text does not tell yet. */
export const beginning = (first: string, whole: boolean): Beginning | undefined => {
  const text = first.startsWith("\ufeff") ? first.slice(1) : first;
  const known = (strict: boolean): Beginning => ({ strict, comment: /^(?:#!|\s*-->)/.test(text) });
  if (!whole && text.length < 16) return undefined;
  let at = afterSpace(text, 0);
  for (;;) {
    if (at === undefined) return whole ? known(false) : undefined;
    if (text[at] !== '"' && text[at] !== "'") return known(false);
    LITERAL.lastIndex = at;
    const literal = LITERAL.exec(text)?.[0];
    if (literal === undefined) return whole ? known(false) : undefined;
    const end = at + literal.length;
    const next = afterSpace(text, end);
    if (next === undefined ? !whole : text.length - next < 11 && !whole) return undefined;
    const closed = next === undefined || ends(text, end, next);
    if (!closed) return known(false);
    if (literal.slice(1, -1) === "use strict") return known(true);
    if (next === undefined) return known(false);
    at = afterSpace(text, text[next] === ";" ? next + 1 : next);
  }
};
