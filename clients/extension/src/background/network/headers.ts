// Headers in the order they came; a name may come more than once.
import type { HttpHeader } from "./details";

export type Headers = readonly (readonly [string, string])[];

const valueOf = (header: HttpHeader): string =>
  header.value ?? String.fromCharCode(...(header.binaryValue ?? []));

/** Firefox joins repeated headers by line breaks, which no value can hold. */
export const headersOf = (headers: readonly HttpHeader[] | undefined): Headers =>
  (headers ?? []).flatMap((header) => valueOf(header).split("\n").map((value) => [header.name, value] as const));

export const headerOf = (headers: Headers, name: string): string | undefined =>
  headers.find(([known]) => known.toLowerCase() === name)?.[1];

export const allOf = (headers: Headers, name: string): string[] =>
  headers.filter(([known]) => known.toLowerCase() === name).map(([, value]) => value);
