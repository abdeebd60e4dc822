// The one WebSocket to the browser-service. It comes back by itself; what was not acknowledged is sent again.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { RelayDownSchema, RelayUpSchema } from "../gen/sonde/browser/v1/relay_pb";
import type { RelayDown } from "../gen/sonde/browser/v1/relay_pb";
import type { ClosedBatch } from "./streams";
import { Writer } from "./wire";

export type Up = NonNullable<MessageInitShape<typeof RelayUpSchema>["message"]>;

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 2000;

export class Connection {
  readonly #url: string;
  #socket: WebSocket | undefined;
  #welcomed = false;
  #retry = RETRY_FIRST_MS;
  readonly #body = new Writer(64 * 1024);
  readonly #frame = new Writer(64 * 1024);

  constructor(
    url: string,
    readonly hello: () => Up,
    readonly onMessage: (message: NonNullable<RelayDown["message"]>) => void,
  ) {
    this.#url = url;
  }

  open(): void {
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#retry = RETRY_FIRST_MS;
      socket.send(toBinary(RelayUpSchema, create(RelayUpSchema, { message: this.hello() })));
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
      const { message } = fromBinary(RelayDownSchema, new Uint8Array(data));
      if (message.case === "welcome") this.#welcomed = true;
      this.onMessage(message);
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      this.#welcomed = false;
      setTimeout(() => this.open(), this.#retry);
      this.#retry = Math.min(this.#retry * 2, RETRY_MOST_MS);
    };
  }

  /** Dropped when there is no connection: whoever sends says it again after the next welcome. */
  send(message: Up): void {
    if (this.#welcomed) this.#socket?.send(toBinary(RelayUpSchema, create(RelayUpSchema, { message })));
  }

  /** As {@link send}, by hand: a copy less of each payload. */
  sendBatch({ visitId, firstOrdinal, count, payload }: ClosedBatch): void {
    if (!this.#welcomed) return;
    const body = this.#body;
    body.reset();
    body.integer(1, visitId);
    body.integer(2, firstOrdinal);
    body.integer(3, count);
    body.message(4, payload);
    const frame = this.#frame;
    frame.reset();
    frame.message(2, body.view());
    this.#socket?.send(frame.view());
  }
}
