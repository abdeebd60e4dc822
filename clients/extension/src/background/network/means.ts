// What the tracker needs of the world around it.
import type { Owner, RunningVisit } from "../attribution";
import type { Row } from "../rows";
import type { Capture, CaptureOptions } from "./bodies";
import type { Details } from "./details";

export interface Means {
  /** Now, in microseconds since the epoch. */
  now(): number;
  /** Whose request it is; undefined: its tab is not settled yet. */
  owner(details: Details): Owner | undefined;
  /** The same, once the tab is settled. */
  settle(details: Details): Promise<Owner>;
  record(owner: Owner, at: number, row: Row): void;
  /** Whether any visit saves bodies of such resources. */
  mayWantBody(resourceType: string): boolean;
  capture(requestId: string, options: CaptureOptions): Capture | { readonly error: string };
  /** Has the empty body stored for a visit. */
  storeEmpty(visit: RunningVisit): void;
  /** A name was resolved for a hop, to the address, or not. */
  resolved(owner: Owner, hop: ResolvedHop): void;
  windowOf(tabId: number): number | undefined;
}

export interface ResolvedHop {
  readonly requestId: string;
  readonly url: string;
  readonly at: number;
  readonly address: string | undefined;
  readonly error: string | undefined;
}
