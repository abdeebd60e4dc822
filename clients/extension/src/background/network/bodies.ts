// Bodies of responses: each goes through a StreamFilter to the page and to the browser-service, which hashes and keeps it.
import type { Prefix } from "../workers/prefix";
import type { StreamFilter } from "./details";
import type { Uploads } from "./uploads";

export type BodyResult =
  | { readonly state: "stored"; readonly sha256: string; readonly bytes: number }
  | { readonly state: "capped"; readonly reason: "body_cap" | "body_backlog" }
  | { readonly state: "failed"; readonly why: string }
  /** The browser took the request elsewhere; what it gets there has a filter of its own. */
  | { readonly state: "moved" };

/** Not failures: https://searchfox.org/mozilla-release/source/toolkit/components/extensions/webrequest/StreamFilterParent.cpp */
const MOVED = /^(?:Channel redirected|ServiceWorker fallback redirection)$/;

export interface Capture {
  /** Decoded bytes that went by. */
  readonly bytes: number;
  /** Whether all of them did, as far as the browser handed them over. */
  readonly ended: boolean;
  readonly result: BodyResult | undefined;
  /** Has what went by stored, as the whole body; the result follows. */
  keep(visitId: number): void;
  /** Has the browser get this before the body, which is kept without it; false: it is too late for that. */
  put(prefix: Prefix): boolean;
  /** Lets the rest go by unseen. */
  abandon(): void;
}

export interface CaptureOptions {
  readonly maxBytes: number;
  /** Called when all went by, and when there is a result. */
  readonly changed: () => void;
}

export class FilterCapture implements Capture {
  bytes = 0;
  ended = false;
  result: BodyResult | undefined;
  #kept = false;
  #prefix: Prefix | undefined;
  readonly #filter: StreamFilter;
  readonly #uploads: Uploads;
  readonly #options: CaptureOptions;
  readonly #body: number;

  constructor(filter: StreamFilter, uploads: Uploads, options: CaptureOptions) {
    this.#filter = filter;
    this.#uploads = uploads;
    this.#options = options;
    this.#body = uploads.open((stored) => {
      if (!("error" in stored)) this.#settle({ state: "stored", ...stored });
      else if (stored.overflow) this.#giveUp("body_backlog");
      else this.#settle({ state: "failed", why: stored.error });
    });
    filter.ondata = ({ data }) => this.#take(data);
    filter.onstop = () => this.#stop();
    filter.onerror = () => this.#fail(filter.error);
  }

  #settle(result: BodyResult): void {
    if (this.result !== undefined) return;
    this.result = result;
    this.#options.changed();
  }

  put(prefix: Prefix): boolean {
    if (this.bytes > 0 || this.ended || this.result !== undefined) return false;
    this.#prefix = prefix;
    return true;
  }

  #write(pieces: readonly (ArrayBuffer | Uint8Array)[]): void {
    for (const piece of pieces) this.#filter.write(piece);
  }

  #take(data: ArrayBuffer): void {
    this.#write(this.#prefix === undefined ? [data] : this.#prefix.take(data));
    if (this.result !== undefined) return;
    this.bytes += data.byteLength;
    if (this.bytes > this.#options.maxBytes) this.#giveUp("body_cap");
    else if (!this.#uploads.add(this.#body, data)) this.#giveUp("body_backlog");
  }

  #detach(): void {
    // Asked to in a state of the filter in which there is nothing to detach, it throws.
    try {
      this.#write(this.#prefix?.end() ?? []);
      this.#filter.disconnect();
    } catch (error) {
      console.debug("a filter was gone already", error);
    }
  }

  #giveUp(reason: "body_cap" | "body_backlog"): void {
    if (!this.ended) this.#detach();
    this.#uploads.drop(this.#body);
    this.#settle({ state: "capped", reason });
  }

  #stop(): void {
    this.ended = true;
    const rest = this.#prefix?.end() ?? [];
    this.#write(rest);
    // What is written after the end of a response goes on only when the filter is closed.
    if (rest.length > 0) this.#filter.close();
    else this.#detach();
    this.#options.changed();
  }

  keep(visitId: number): void {
    if (this.#kept || this.result !== undefined) return;
    this.#kept = true;
    this.#uploads.finish(this.#body, visitId);
  }

  #fail(error: string): void {
    if (this.result !== undefined || this.ended) return;
    this.#uploads.drop(this.#body);
    this.#settle(MOVED.test(error) ? { state: "moved" } : { state: "failed", why: error === "" ? "the filter failed" : error });
  }

  abandon(): void {
    if (this.result !== undefined) return;
    // A filter that has not begun is left alone: of a redirect it ends by itself.
    if (!this.ended && this.bytes > 0) this.#detach();
    this.#uploads.drop(this.#body);
    this.result = { state: "failed", why: "the visit ended before the body came" };
  }
}
