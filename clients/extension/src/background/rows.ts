// Records other than calls, through the generated code.
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { RecordSchema } from "../gen/sonde/record/v1/record_pb";
import { wellFormed } from "./wire";

export type Row = NonNullable<MessageInitShape<typeof RecordSchema>["row"]>;

/** Strings of pages may hold lone surrogates, which protobuf refuses. */
const cleaned = <T>(value: T): T => {
  if (typeof value === "string") return wellFormed(value) as T;
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, cleaned(inner)])) as T;
};

/** An encoded sonde.record.v1.Record; `at` is in microseconds. */
export const recordBytes = (at: number, row: Row): Uint8Array =>
  toBinary(RecordSchema, create(RecordSchema, { capturedAtUs: BigInt(Math.round(at)), row: cleaned(row) as Row }));

const TABLES: Record<string, string> = {
  javascript: "javascript", javascriptCookie: "javascript_cookies", navigation: "navigations", truncation: "truncations",
  httpRequest: "http_requests", httpResponse: "http_responses", httpRedirect: "http_redirects", httpFailure: "http_failures",
  dnsResponse: "dns_responses",
};

/** The record that says a row belongs to no visit. */
export const unattributed = (at: number, row: Row, reason: string): Uint8Array => {
  const json = toJson(RecordSchema, create(RecordSchema, { row: cleaned(row) as Row })) as Record<string, unknown>;
  return recordBytes(at, {
    case: "unattributed",
    value: { tableName: TABLES[row.case as string] ?? String(row.case), reason, payload: JSON.stringify(json[row.case as string]) },
  } as Row);
};
