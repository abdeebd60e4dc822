// The network instrument of browsers that tell an extension everything: webRequest, StreamFilter, dns and cookies.
// A thin shell: what the events mean is the tracker's.
import type { Attribution, RunningVisit } from "../attribution";
import type { Up } from "../connection";
import type { RelayBodyStored } from "../../gen/sonde/browser/v1/relay_pb";
import type { Refusal } from "../frames";
import { recordBytes, unattributed } from "../rows";
import type { Row } from "../rows";
import { NO_VISIT } from "../streams";
import type { Streams } from "../streams";
import type { Owner } from "../attribution";
import type { Prefix } from "../workers/prefix";
import { FilterCapture } from "./bodies";
import type { CaptureOptions } from "./bodies";
import type { CookieChange, Details, NetworkApi } from "./details";
import { changeRow } from "./jar";
import { Names } from "./names";
import { refusalRow } from "./refusals";
import { NetworkTracker } from "./tracker";
import { Uploads } from "./uploads";
import type { BodyPart } from "./uploads";

const SECURE = { urls: ["https://*/*", "wss://*/*"] };
const ALL = { urls: ["<all_urls>", "ws://*/*", "wss://*/*"] };

const partMessage = (part: BodyPart): Up => ({
  case: "bodyPart",
  value: {
    body: BigInt(part.body), offset: BigInt(part.offset), bytes: part.bytes, dropped: part.dropped,
    last: part.visitId !== undefined, visitId: BigInt(part.visitId ?? NO_VISIT),
  },
} as Up);

/** What it needs of the rest of the background. */
export interface Surroundings {
  readonly attribution: Attribution;
  readonly streams: Streams;
  readonly send: (message: Up) => void;
  readonly windowOf: (tabId: number) => number | undefined;
}

export class Network {
  readonly #api: NetworkApi;
  readonly #around: Surroundings;
  readonly #uploads: Uploads;
  readonly #names: Names;
  readonly #tracker: NetworkTracker;
  readonly #own = chrome.runtime.getURL("");
  readonly #emptyStored = new Set<number>();

  constructor(api: NetworkApi, around: Surroundings) {
    const { attribution } = around;
    this.#api = api;
    this.#around = around;
    this.#uploads = new Uploads((part) => around.send(partMessage(part)));
    this.#names = new Names(api.dns, (owner, at, row) => this.#record(owner, at, row));
    this.#tracker = new NetworkTracker({
      now: () => Date.now() * 1000,
      owner: (details) => attribution.ownerOfRequest(details.tabId, details.cookieStoreId),
      settle: async (details) => {
        await attribution.settle(details.tabId);
        return attribution.ownerOfRequest(details.tabId, details.cookieStoreId) ?? { reason: "tab_unknown" };
      },
      record: (owner, at, row) => this.#record(owner, at, row),
      mayWantBody: (type) => attribution.running.some(({ network }) => network?.savesContent(type) === true),
      capture: (requestId, options) => this.#capture(requestId, options),
      storeEmpty: (visit) => this.#storeEmpty(visit),
      resolved: (owner, hop) => this.#names.resolved(owner, hop),
      windowOf: around.windowOf,
    });
  }

  /** Registers the listeners; call it once, in the first turn of the background. */
  listen(): void {
    const { webRequest, cookies } = this.#api;
    const tracker = this.#tracker;
    const of = <D extends Details, R>(listener: (details: D) => R) => (details: D): R | undefined =>
      details.originUrl?.startsWith(this.#own) === true ? undefined : listener(details);
    webRequest.onBeforeRequest.addListener(of((details) => tracker.onBeforeRequest(details)), ALL, ["blocking", "requestBody"]);
    webRequest.onSendHeaders.addListener(of((details) => tracker.onSendHeaders(details)), ALL, ["requestHeaders"]);
    webRequest.onHeadersReceived.addListener(of((details) => tracker.onHeadersReceived(details)), ALL, ["responseHeaders"]);
    webRequest.onHeadersReceived.addListener(
      of((details) => void tracker.onSecurity(details.requestId, webRequest.getSecurityInfo(details.requestId, {}))), SECURE, ["blocking"],
    );
    webRequest.onResponseStarted.addListener(of((details) => tracker.onResponseStarted(details)), ALL, ["responseHeaders"]);
    webRequest.onBeforeRedirect.addListener(of((details) => tracker.onBeforeRedirect(details)), ALL, ["responseHeaders"]);
    webRequest.onCompleted.addListener(of((details) => tracker.onCompleted(details)), ALL, ["responseHeaders"]);
    webRequest.onErrorOccurred.addListener(of((details) => tracker.onErrorOccurred(details)), ALL);
    cookies.onChanged.addListener((change) => this.#changed(change));
  }

  #record(owner: Owner, at: number, row: Row): void {
    const { streams } = this.#around;
    if ("visit" in owner) streams.add(owner.visit.visitId, recordBytes(at, row));
    else streams.add(NO_VISIT, unattributed(at, row, owner.reason));
  }

  #changed(change: CookieChange): void {
    const owner = this.#around.attribution.ownerOfStore(change.cookie.storeId);
    if ("visit" in owner && (owner.visit.network?.cookies !== true || owner.visit.closing)) return;
    this.#record(owner, Date.now() * 1000, changeRow(change));
  }

  /** A document's policy refused a request before it began. */
  refused(owner: Owner, refusal: Refusal): void {
    const row = refusalRow(refusal);
    if (row === undefined || ("visit" in owner && owner.visit.network?.http !== true)) return;
    this.#record(owner, refusal.at, row);
  }

  #capture(requestId: string, options: CaptureOptions): FilterCapture | { readonly error: string } {
    try {
      return new FilterCapture(this.#api.webRequest.filterResponseData(requestId), this.#uploads, options);
    } catch (error) {
      return { error: String(error) };
    }
  }

  /** Has what captures the body of a request put this before it; false: nothing captures it. */
  put(requestId: string, prefix: Prefix): boolean {
    return this.#tracker.captureOf(requestId)?.put(prefix) ?? false;
  }

  #storeEmpty(visit: RunningVisit): void {
    if (this.#emptyStored.has(visit.visitId)) return;
    this.#emptyStored.add(visit.visitId);
    const body = this.#uploads.open((stored) => {
      if ("error" in stored) console.error("the empty body was not stored", stored.error);
    });
    this.#uploads.finish(body, visit.visitId);
  }

  /** The browser-service has the first bytes of a body. */
  acked(body: number, through: number): void {
    this.#uploads.acked(body, through);
  }

  stored({ body, sha256, bytes, error, overflow }: RelayBodyStored): void {
    this.#uploads.stored(Number(body), error === "" ? { sha256, bytes: Number(bytes) } : { error, overflow });
  }

  /** After a reconnect. */
  resend(): void {
    this.#uploads.resend();
  }

  /** From here on nothing more of a visit leaves the browser. */
  close(visit: RunningVisit): void {
    visit.closing = true;
  }

  /** Records what a visit has open, after `timeoutMs` at most. */
  async finish(visit: RunningVisit, timeoutMs: number): Promise<void> {
    if (visit.network === undefined) return;
    const deadline = new Promise<void>((resolve) => setTimeout(resolve, timeoutMs));
    // Its answer comes after all events that were before it.
    await Promise.race([this.#api.runtime.getBrowserInfo(), deadline]);
    await this.#tracker.finish(visit, deadline);
    await this.#names.finish(visit.visitId, deadline);
    this.#emptyStored.delete(visit.visitId);
  }
}
