// Bodies of requests, as columns of http_requests.
import type { BeforeRequest } from "./details";

/** Bytes of one body that are kept; Chromium's rows have the same. */
export const POST_BODY_CAP = 1024 * 1024;

export interface PostBody {
  /** JSON object of name to array of values; of forms only. */
  readonly fields: string | undefined;
  /** JSON array of [file name or null, base64]. */
  readonly raw: string | undefined;
  /** Whole length, where the parts tell. */
  readonly bytes: number | undefined;
  /** Bytes that are not in `raw`, though the browser had them. */
  readonly cut: number;
  /** Why the browser gave none of it. */
  readonly unavailable: string | undefined;
}

export const NO_BODY: PostBody = { fields: undefined, raw: undefined, bytes: undefined, cut: 0, unavailable: undefined };

const base64 = (bytes: Uint8Array): string => {
  const PIECE = 0x8000;
  let binary = "";
  for (let at = 0; at < bytes.length; at += PIECE) binary += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  return btoa(binary);
};

type Raw = NonNullable<NonNullable<BeforeRequest["requestBody"]>["raw"]>;

const rawBody = (parts: Raw, cap: number): PostBody => {
  let left = cap;
  let bytes = 0;
  let named = false;
  const kept = parts.map((part): [string | null, string] => {
    if (part.file !== undefined) {
      named = true;
      return [part.file, ""];
    }
    const whole = new Uint8Array(part.bytes ?? new ArrayBuffer(0));
    bytes += Math.max(part.originalSize ?? 0, whole.length);
    const piece = whole.subarray(0, left);
    left -= piece.length;
    return [null, base64(piece)];
  });
  return {
    ...NO_BODY, raw: JSON.stringify(kept), bytes: named ? undefined : bytes, cut: bytes - (cap - left),
    unavailable: named ? "the browser tells only the names of files" : undefined,
  };
};

/** The fields of a form in the order of its names; files are there by name. */
const formBody = (form: Readonly<Record<string, readonly string[]>>, cap: number): PostBody => {
  const fields = JSON.stringify(form);
  if (fields.length <= cap) return { ...NO_BODY, fields };
  return { ...NO_BODY, cut: fields.length };
};

export const postBody = (body: BeforeRequest["requestBody"], cap = POST_BODY_CAP): PostBody => {
  if (body === undefined || body === null) return NO_BODY;
  if (body.formData !== undefined) return formBody(body.formData, cap);
  if (body.raw !== undefined) return rawBody(body.raw, cap);
  return body.error === undefined ? NO_BODY : { ...NO_BODY, unavailable: body.error };
};
