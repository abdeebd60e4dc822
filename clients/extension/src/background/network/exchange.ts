// One request with all its hops.
import type { Owner } from "../attribution";
import type { Row } from "../rows";
import type { Capture } from "./bodies";
import type { Details } from "./details";
import type { Failure } from "./errors";
import type { Headers } from "./headers";
import type { PostBody } from "./post";

export interface Reply {
  /** Microseconds since the epoch, as all `at`. */
  readonly at: number;
  /** Undefined of an answer that a service worker made: the browser does not tell. */
  readonly status: number | undefined;
  readonly line: string;
  readonly headers: Headers;
  fromCache: boolean;
  /** The cache's copy, after the server said it is good: `status` and `headers` are the server's. */
  revalidated: boolean;
  ip: string | undefined;
}

export interface Hop {
  readonly details: Details;
  readonly at: number;
  readonly post: PostBody;
  /** The headers on the wire. */
  sent: Headers | undefined;
  sentAt: number | undefined;
  reply: Reply | undefined;
  capture: Capture | undefined;
  /** JSON of the TLS facts; pending while they are asked for. */
  tls: string | "pending" | undefined;
  /** Its http_requests row is made. */
  recorded: boolean;
  /** The browser announced it only as the target of a redirect. */
  announced: boolean;
  /** A service worker has it; undefined: none. When that was. */
  intercepted: number | undefined;
}

export type End =
  | { readonly kind: "whole"; readonly at: number }
  | { readonly kind: "failed"; readonly at: number; readonly failure: Failure }
  /** Nobody tells how it went on. */
  | { readonly kind: "given_up"; readonly at: number; readonly failure: Failure };

export interface Exchange {
  readonly id: string;
  /** Undefined while its tab is not settled. */
  owner: Owner | undefined;
  /** Rows that wait for the owner. */
  held: [number, Row][];
  settled: Promise<void>;
  readonly hops: Hop[];
  end: End | undefined;
  /** All its rows are made. */
  done: boolean;
  /** A WebSocket: its handshake is all there is to a row. */
  readonly socket: boolean;
}

export const lastHop = (exchange: Exchange): Hop => exchange.hops[exchange.hops.length - 1] as Hop;
