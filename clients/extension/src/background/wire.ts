// Protobuf by hand, for the one message that comes by the hundred thousand; everything else goes through the
// generated code.

const encoder = new TextEncoder();

/** A lone surrogate has no UTF-8: it is written as JSON writes it. */
export const wellFormed = (text: string): string =>
  text.isWellFormed()
    ? text
    : text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (unit) =>
        unit.length === 2 ? unit : `\\u${unit.charCodeAt(0).toString(16)}`);

/** A growing buffer of protobuf fields. */
export class Writer {
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity);
  }

  reset(): void {
    this.length = 0;
  }

  #reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** A non-negative integer up to 2^53. */
  varint(value: number): void {
    this.#reserve(10);
    let rest = value;
    while (rest > 0x7fffffff) {
      this.bytes[this.length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.bytes[this.length++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.bytes[this.length++] = rest;
  }

  /** Field of a varint type; negative numbers as int64 has them. */
  integer(field: number, value: number): void {
    this.varint(field * 8);
    if (value >= 0) {
      this.varint(value);
      return;
    }
    this.#reserve(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 127n; rest >>= 7n) this.bytes[this.length++] = Number(rest & 127n) | 128;
    this.bytes[this.length++] = Number(rest);
  }

  /** An element of a packed field of a signed type, up to 2^52 on either side. */
  zigzag(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  text(field: number, text: string): void {
    const value = wellFormed(text);
    this.varint(field * 8 + 2);
    const units = value.length;
    if (units < 43) {
      // At most 127 bytes, so the length is one byte, and known afterwards.
      this.#reserve(1 + units * 3);
      const at = this.length++;
      const { written } = encoder.encodeInto(value, this.bytes.subarray(this.length));
      this.bytes[at] = written;
      this.length += written;
      return;
    }
    const encoded = encoder.encode(value);
    this.varint(encoded.length);
    this.raw(encoded);
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** A nested message, or bytes. */
  message(field: number, bytes: Uint8Array): void {
    this.varint(field * 8 + 2);
    this.varint(bytes.length);
    this.raw(bytes);
  }

  /** What was written; valid until the next write. */
  view(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }

  copy(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length);
  }
}
