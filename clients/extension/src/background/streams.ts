// The streams of this background: for each visit, records with contiguous ordinals, in batches that are kept until the
// browser-service says they are durable. A batch never changes once it is closed, so that one sent twice can be told.
import type { Run } from "./javascript";
import { Writer } from "./wire";

/** Field numbers of sonde.record.v1.RecordList. */
const RECORDS = 1;
const CALLS = 2;

const BATCH_RECORDS = 256;
const BATCH_BYTES = 4 * 1024 * 1024;
const BATCH_MS = 20;
/** All batches of all streams. */
const QUEUE_BYTES = 192 * 1024 * 1024;
/** The longest record: a batch of one still fits in a WebSocket message of 16 MiB. */
const RECORD_BYTES = 14 * 1024 * 1024;
/** Records of no visit are kept unacknowledged up to this. */
const STRAY_BYTES = 4 * 1024 * 1024;

export const NO_VISIT = -1;

export interface ClosedBatch {
  readonly visitId: number;
  readonly firstOrdinal: number;
  readonly count: number;
  /** An encoded sonde.record.v1.RecordList. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

interface Stream {
  next: number;
  first: number;
  open: Writer;
  /** The open batch holds calls: in a list they come last. */
  calls: boolean;
  closed: ClosedBatch[];
  /** Of all its records here. */
  bytes: number;
  /** Records that found no room since the last truncation row. */
  dropped: number;
  droppedBytes: number;
}

export class Streams {
  readonly #streams = new Map<number, Stream>();
  readonly #send: (batch: ClosedBatch) => void;
  /** Makes the row that says what was dropped. */
  readonly #truncation: (rows: number, bytes: number) => Uint8Array;
  #bytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(send: (batch: ClosedBatch) => void, truncation: (rows: number, bytes: number) => Uint8Array) {
    this.#send = send;
    this.#truncation = truncation;
  }

  #stream(visitId: number): Stream {
    let stream = this.#streams.get(visitId);
    if (stream === undefined) {
      stream = { next: 0, first: 0, open: new Writer(16 * 1024), calls: false, closed: [], bytes: 0, dropped: 0, droppedBytes: 0 };
      this.#streams.set(visitId, stream);
    }
    return stream;
  }

  /** Adds an encoded sonde.record.v1.Record. */
  add(visitId: number, record: Uint8Array): void {
    this.#add(visitId, RECORDS, record, 1);
  }

  /** Adds calls. */
  addCalls(visitId: number, { bytes, count }: Run): void {
    this.#add(visitId, CALLS, bytes, count);
  }

  #add(visitId: number, field: number, bytes: Uint8Array, count: number): void {
    const stream = this.#stream(visitId);
    const full = this.#bytes + bytes.length > QUEUE_BYTES || (visitId === NO_VISIT && stream.bytes > STRAY_BYTES);
    if (full || bytes.length > RECORD_BYTES) {
      stream.dropped += count;
      stream.droppedBytes += bytes.length;
      return;
    }
    if (stream.dropped > 0) this.#confess(visitId, stream);
    this.#put(visitId, stream, field, bytes, count);
  }

  #put(visitId: number, stream: Stream, field: number, bytes: Uint8Array, count: number): void {
    const tooLong = stream.open.length > 0 && stream.open.length + bytes.length > BATCH_BYTES;
    if (tooLong || (stream.calls && field === RECORDS)) this.#close(visitId, stream);
    const before = stream.open.length;
    stream.open.message(field, bytes);
    stream.calls = field === CALLS;
    stream.next += count;
    stream.bytes += stream.open.length - before;
    this.#bytes += stream.open.length - before;
    if (stream.next - stream.first >= BATCH_RECORDS) this.#close(visitId, stream);
    else this.#timer ??= setTimeout(() => this.#closeAll(), BATCH_MS);
  }

  #confess(visitId: number, stream: Stream): void {
    const row = this.#truncation(stream.dropped, stream.droppedBytes);
    stream.dropped = 0;
    stream.droppedBytes = 0;
    this.#put(visitId, stream, RECORDS, row, 1);
  }

  #close(visitId: number, stream: Stream): void {
    const count = stream.next - stream.first;
    if (count === 0) return;
    const batch = { visitId, firstOrdinal: stream.first, count, payload: stream.open.copy() };
    stream.open.reset();
    stream.calls = false;
    stream.first = stream.next;
    stream.closed.push(batch);
    this.#send(batch);
  }

  #closeAll(): void {
    this.#timer = undefined;
    for (const [visitId, stream] of this.#streams) this.#close(visitId, stream);
  }

  /** Closes what is open, and says what was dropped: the last ordinal of the stream, -1 for an empty one. */
  finish(visitId: number): number {
    const stream = this.#stream(visitId);
    if (stream.dropped > 0) this.#confess(visitId, stream);
    this.#close(visitId, stream);
    return stream.next - 1;
  }

  ack(visitId: number, through: number): void {
    const stream = this.#streams.get(visitId);
    if (stream === undefined) return;
    while (stream.closed[0] !== undefined && stream.closed[0].firstOrdinal + stream.closed[0].count - 1 <= through) {
      const { length } = (stream.closed.shift() as ClosedBatch).payload;
      this.#bytes -= length;
      stream.bytes -= length;
    }
  }

  /** Forgets a stream. */
  drop(visitId: number): void {
    const stream = this.#streams.get(visitId);
    if (stream === undefined) return;
    this.#bytes -= stream.bytes;
    this.#streams.delete(visitId);
  }

  /** What is not acknowledged, in order: to be sent again after a reconnect. */
  *unacknowledged(): Generator<ClosedBatch> {
    for (const stream of this.#streams.values()) yield* stream.closed;
  }

  *states(): Generator<{ visitId: number; nextOrdinal: number; firstUnacked: number }> {
    for (const [visitId, stream] of this.#streams) {
      yield { visitId, nextOrdinal: stream.next, firstUnacked: stream.closed[0]?.firstOrdinal ?? stream.first };
    }
  }
}
