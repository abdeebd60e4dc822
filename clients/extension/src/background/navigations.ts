// Rows of `navigations`: commits, history and fragment changes, and failures of every frame.
import type { Attribution, Owner } from "./attribution";
import { capabilities } from "./capability";
import { recordBytes, unattributed } from "./rows";
import type { Row } from "./rows";
import { NO_VISIT } from "./streams";
import type { Streams } from "./streams";

/** Starts whose end has not come. */
const STARTED = 4096;

interface Start {
  readonly ordinal: number;
  readonly at: number;
}

type Details = chrome.webNavigation.WebNavigationBaseCallbackDetails & {
  readonly parentFrameId?: number;
  readonly processId?: number;
  readonly documentId?: string;
  readonly transitionType?: string;
  readonly transitionQualifiers?: string[];
  readonly error?: string;
};

interface Place {
  readonly tab: chrome.tabs.Tab | undefined;
  readonly window: chrome.windows.Window | undefined;
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();

export class Navigations {
  readonly #started = new Map<string, Start>();
  readonly #pending = new Set<Promise<void>>();
  /** The last known places of tabs: a tab may be gone when its row is made. */
  readonly #places = new Map<number, Place>();
  #ordinal = 0;

  constructor(readonly attribution: Attribution, readonly streams: Streams, readonly wanted: boolean) {}

  started(details: Details): void {
    this.#started.set(`${details.tabId}/${details.frameId}`, { ordinal: this.#ordinal++, at: details.timeStamp });
    if (this.#started.size > STARTED) this.#started.delete(this.#started.keys().next().value as string);
  }

  ended(details: Details, kind: "committed" | "history_state" | "fragment" | "failed"): void {
    if (!this.wanted) return;
    const key = `${details.tabId}/${details.frameId}`;
    const loads = kind === "committed" || kind === "failed";
    const start = loads ? this.#started.get(key) : undefined;
    if (loads) this.#started.delete(key);
    const ordinal = this.#ordinal++;
    // Bound now: what the lookups find later does not change whose row it is.
    const owner = this.attribution.knows(details.tabId) ? this.attribution.owner(details.tabId) : undefined;
    const task = this.#store(details, kind, start, ordinal, owner).finally(() => this.#pending.delete(task));
    this.#pending.add(task);
  }

  async #store(details: Details, kind: string, start: Start | undefined, ordinal: number, bound: Owner | undefined): Promise<void> {
    if (bound === undefined) await this.attribution.settle(details.tabId);
    const owner = bound ?? this.attribution.owner(details.tabId);
    const place = await this.#place(details.tabId);
    const row = rowOf(details, kind, start, ordinal, place);
    const at = details.timeStamp * 1000;
    if (!("visit" in owner)) this.streams.add(NO_VISIT, unattributed(at, row, owner.reason));
    else if (owner.visit.navigations) this.streams.add(owner.visit.visitId, recordBytes(at, row));
  }

  async #place(tabId: number): Promise<Place> {
    try {
      const tab = await chrome.tabs.get(tabId);
      const place = { tab, window: await chrome.windows.get(tab.windowId) };
      this.#places.set(tabId, place);
      return place;
    } catch {
      // The tab is gone; what it was is still right.
      return this.#places.get(tabId) ?? { tab: undefined, window: undefined };
    }
  }

  removed(tabId: number): void {
    for (const key of this.#started.keys()) if (key.startsWith(`${tabId}/`)) this.#started.delete(key);
    setTimeout(() => this.#places.delete(tabId), 5000);
  }

  /** Waits until the rows of all events so far are made. */
  async settled(): Promise<void> {
    await Promise.all(this.#pending);
  }
}

const optional = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

const big = (value: number | undefined): bigint | undefined =>
  value === undefined || !Number.isInteger(value) ? undefined : BigInt(value);

const rowOf = (details: Details, kind: string, start: Start | undefined, ordinal: number, place: Place): Row => {
  const { tab, window } = place;
  const container = capabilities.containers ? (tab as { cookieStoreId?: string } | undefined)?.cookieStoreId : undefined;
  return {
    case: "navigation",
    value: optional({
      incognito: tab?.incognito ?? false,
      processId: capabilities.processIds ? big(details.processId) : undefined,
      windowId: big(tab?.windowId),
      tabId: BigInt(details.tabId),
      tabOpenerTabId: big(tab?.openerTabId),
      frameId: BigInt(details.frameId),
      parentFrameId: big(details.parentFrameId),
      windowWidth: big(window?.width),
      windowHeight: big(window?.height),
      windowType: window?.type,
      tabWidth: big(tab?.width),
      tabHeight: big(tab?.height),
      tabCookieStoreId: container,
      uuid: details.documentId,
      url: details.url,
      transitionQualifiers: details.transitionQualifiers === undefined ? undefined : JSON.stringify(details.transitionQualifiers),
      transitionType: details.transitionType,
      beforeNavigateEventOrdinal: big(start?.ordinal),
      beforeNavigateTimeStamp: start === undefined ? undefined : iso(start.at),
      committedEventOrdinal: kind === "failed" ? undefined : big(ordinal),
      committedTimeStamp: kind === "failed" ? undefined : iso(details.timeStamp),
      kind,
      error: details.error,
    }),
  } as Row;
};
