// Bodies on their way to the browser-service: in parts, kept until it says it has them. What is kept is bounded.

/** All parts of all bodies that the browser-service has not acknowledged. */
const WINDOW_BYTES = 64 * 1024 * 1024;
const PART_BYTES = 1024 * 1024;

export interface BodyPart {
  readonly body: number;
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Set on the last one: nothing follows, and whose body it is. */
  readonly visitId: number | undefined;
  /** The body is given up. */
  readonly dropped: boolean;
}

export type Stored =
  | { readonly sha256: string; readonly bytes: number }
  | { readonly error: string; readonly overflow: boolean };

interface Upload {
  /** Bytes taken so far. */
  size: number;
  readonly waiting: BodyPart[];
  readonly done: (stored: Stored) => void;
}

export class Uploads {
  readonly #uploads = new Map<number, Upload>();
  readonly #send: (part: BodyPart) => void;
  readonly #window: number;
  #next = 0;
  #held = 0;

  constructor(send: (part: BodyPart) => void, window = WINDOW_BYTES) {
    this.#send = send;
    this.#window = window;
  }

  /** Bytes kept. */
  get held(): number {
    return this.#held;
  }

  /** Begins a body: its number. `done` is called at most once, unless the body is dropped. */
  open(done: (stored: Stored) => void): number {
    const body = this.#next++;
    this.#uploads.set(body, { size: 0, waiting: [], done });
    return body;
  }

  /** False: there is no room, and nothing was taken. */
  add(body: number, data: ArrayBuffer): boolean {
    const upload = this.#uploads.get(body);
    if (upload === undefined) return true;
    if (this.#held + data.byteLength > this.#window) return false;
    for (let at = 0; at < data.byteLength; at += PART_BYTES) {
      const bytes = new Uint8Array(data, at, Math.min(PART_BYTES, data.byteLength - at));
      this.#put(upload, { body, offset: upload.size, bytes, visitId: undefined, dropped: false });
    }
    return true;
  }

  #put(upload: Upload, part: BodyPart): void {
    upload.size += part.bytes.length;
    this.#held += part.bytes.length;
    upload.waiting.push(part);
    this.#send(part);
  }

  /** The body is whole. */
  finish(body: number, visitId: number): void {
    const upload = this.#uploads.get(body);
    if (upload === undefined) return;
    this.#put(upload, { body, offset: upload.size, bytes: new Uint8Array(0), visitId, dropped: false });
  }

  drop(body: number): void {
    const upload = this.#forget(body);
    if (upload !== undefined && upload.size > 0) {
      this.#send({ body, offset: upload.size, bytes: new Uint8Array(0), visitId: undefined, dropped: true });
    }
  }

  #forget(body: number): Upload | undefined {
    const upload = this.#uploads.get(body);
    this.#uploads.delete(body);
    for (const { bytes } of upload?.waiting ?? []) this.#held -= bytes.length;
    return upload;
  }

  /** The browser-service has the first `through` bytes of a body. */
  acked(body: number, through: number): void {
    const waiting = this.#uploads.get(body)?.waiting;
    while (waiting?.[0] !== undefined && waiting[0].visitId === undefined && waiting[0].offset + waiting[0].bytes.length <= through) {
      this.#held -= (waiting.shift() as BodyPart).bytes.length;
    }
  }

  /** The browser-service has stored a body, or will not. */
  stored(body: number, stored: Stored): void {
    this.#forget(body)?.done(stored);
  }

  /** What is not acknowledged, after a reconnect. */
  resend(): void {
    for (const { waiting } of this.#uploads.values()) for (const part of waiting) this.#send(part);
  }
}
