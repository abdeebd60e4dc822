// Replays what a real Firefox 153 told an extension (recordings/) through the tracker, with filters that are scripted.
import { readFileSync } from "node:fs";
import type { Owner, RunningVisit } from "../src/background/attribution";
import { FilterCapture } from "../src/background/network/bodies";
import type { StreamFilter } from "../src/background/network/details";
import type { ResolvedHop } from "../src/background/network/means";
import { NetworkTracker } from "../src/background/network/tracker";
import { Uploads } from "../src/background/network/uploads";
import type { Stored } from "../src/background/network/uploads";
import type { Row } from "../src/background/rows";

export interface Recorded {
  readonly event: string;
  readonly requestId: string;
  readonly url: string;
  readonly n?: number;
  readonly error?: string;
}

type Value = Record<string, unknown>;
export interface Rows {
  readonly requests: Value[];
  readonly responses: Value[];
  readonly redirects: Value[];
  readonly failures: Value[];
  readonly cookies: Value[];
  readonly truncations: Value[];
}

const TABLES: Record<string, keyof Rows> = {
  httpRequest: "requests", httpResponse: "responses", httpRedirect: "redirects", httpFailure: "failures",
  javascriptCookie: "cookies", truncation: "truncations",
};

class ScriptedFilter implements StreamFilter {
  onstart: StreamFilter["onstart"] = null;
  ondata: StreamFilter["ondata"] = null;
  onstop: StreamFilter["onstop"] = null;
  onerror: StreamFilter["onerror"] = null;
  error = "";
  over = false;
  written = 0;
  disconnected = false;

  constructor(readonly url: string) {}

  write(data: ArrayBuffer): void {
    this.written += data.byteLength;
  }

  close(): void {
    this.over = true;
  }

  disconnect(): void {
    this.disconnected = true;
  }
}

export interface Wishes {
  readonly save?: boolean;
  readonly maxBodyBytes?: number;
  /** Answers a body that is stored; by default with its length as its hash. */
  readonly stored?: (bytes: number) => Stored | undefined;
  readonly window?: number;
}

const bytesOf = (body: unknown): unknown => {
  const { raw } = (body ?? {}) as { raw?: { bytes?: number }[] };
  return raw === undefined ? body : { raw: raw.map((part) => ({ ...part, bytes: new ArrayBuffer(part.bytes ?? 0) })) };
};

export class Replay {
  readonly rows: Rows = { requests: [], responses: [], redirects: [], failures: [], cookies: [], truncations: [] };
  readonly strays: [string, Row][] = [];
  readonly resolved: ResolvedHop[] = [];
  readonly filters: ScriptedFilter[] = [];
  readonly visit: RunningVisit;
  readonly tracker: NetworkTracker;
  readonly uploads: Uploads;
  owner: (tabId: number) => Owner | undefined;
  settle: () => Promise<Owner>;
  emptyStored = 0;
  at = 0;

  constructor({ save = true, maxBodyBytes = 1 << 30, stored, window }: Wishes = {}) {
    this.visit = {
      visitId: 7, token: "t", javascript: false, navigations: false, cookies: true, missingTargets: new Map(), notInstrumented: new Set(), firstTab: 2, closing: false, sealed: false,
      network: { http: true, dns: true, cookies: true, maxBodyBytes, savesContent: () => save },
    };
    this.owner = () => ({ visit: this.visit });
    this.settle = () => Promise.resolve({ visit: this.visit });
    const answer = stored ?? ((bytes: number): Stored => ({ sha256: `hash of ${bytes}`, bytes }));
    this.uploads = new Uploads((part) => {
      if (part.dropped) return;
      if (part.visitId === undefined) return queueMicrotask(() => this.uploads.acked(part.body, part.offset + part.bytes.length));
      const result = answer(part.offset);
      if (result !== undefined) queueMicrotask(() => this.uploads.stored(part.body, result));
    }, window);
    this.tracker = new NetworkTracker({
      now: () => this.at * 1000,
      owner: (details) => this.owner(details.tabId),
      settle: () => this.settle(),
      record: (owner, _at, row) => this.#record(owner, row),
      mayWantBody: () => save,
      capture: (_requestId, options) => {
        const filter = new ScriptedFilter(this.#url);
        this.filters.push(filter);
        return new FilterCapture(filter, this.uploads, options);
      },
      storeEmpty: () => void this.emptyStored++,
      resolved: (_owner, hop) => void this.resolved.push(hop),
      windowOf: () => 1,
    });
  }

  #url = "";

  #record(owner: Owner, row: Row): void {
    if ("visit" in owner) this.rows[TABLES[row.case as string] as keyof Rows].push(row.value as unknown as Value);
    else this.strays.push([owner.reason, row]);
  }

  filter(url: string): ScriptedFilter {
    const found = this.filters.find((filter) => filter.url === url && !filter.over);
    if (found === undefined) throw new Error(`no filter for ${url}`);
    return found;
  }

  /** What one event of a recording says; those of filters need the filter to be there. */
  event(recorded: Recorded): void {
    const { event, requestId, url, n = 0, error = "" } = recorded;
    if (event.startsWith("f.")) {
      const filter = this.filters.find((known) => known.url === `${requestId} ${url}` && !known.over);
      if (filter === undefined) return;
      filter.over = true;
      if (n > 0) filter.ondata?.({ data: new ArrayBuffer(n) });
      filter.error = error;
      if (event === "f.stop") filter.onstop?.();
      else filter.onerror?.();
      return;
    }
    if (event === "cookie") return;
    const details = {
      frameId: 0, parentFrameId: -1, cookieStoreId: "firefox-container-6", ...recorded,
      requestBody: bytesOf((recorded as { requestBody?: unknown }).requestBody),
    } as never;
    this.at = (recorded as unknown as { timeStamp: number }).timeStamp;
    this.#url = `${requestId} ${url}`;
    this.tracker[event as "onSendHeaders"](details);
  }

  async play(name: string): Promise<this> {
    for (const recorded of JSON.parse(readFileSync(`tests/recordings/${name}.json`, "utf8")) as Recorded[]) {
      if (recorded.event === "onAuthRequired") continue;
      this.event(recorded);
      await Promise.resolve();
    }
    return this;
  }

  async finish(): Promise<this> {
    this.visit.closing = true;
    await this.tracker.finish(this.visit, new Promise((resolve) => setTimeout(resolve, 50)));
    return this;
  }

  one(table: keyof Rows, end: string): Value {
    const found = this.rows[table].filter(({ url, oldRequestUrl }) => String(url ?? oldRequestUrl).endsWith(end));
    if (found.length !== 1) throw new Error(`${found.length} ${table} end with ${end}`);
    return found[0] as Value;
  }
}
