// Rows of `navigations`: commits, history and fragment changes, and failures of every frame.
import type { Attribution, Owner } from "./attribution";
import { capabilities } from "./capability";
import type { Documents } from "./documents";
import { recordBytes, unattributed } from "./rows";
import type { Row } from "./rows";
import { NO_VISIT } from "./streams";
import type { Streams } from "./streams";
import type { Frames } from "./frames";

/** Starts whose end has not come. */
const STARTED = 4096;

interface Start {
  readonly url: string;
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

interface Where {
  readonly tab: chrome.tabs.Tab | undefined;
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly windowType: string | undefined;
  readonly opener: number | undefined;
}

/** A frame of a committed document tells where its tab is within this time, or not at all. */
const PLACE_MS = 1000;

/** A navigation that was given up is begun again within this time, or not at all; and so long when its request tells. */
const RESTART_MS = 1000;
const REQUEST_MS = 5000;
/** NS_BINDING_ABORTED, as Firefox words it. */
const GIVEN_UP = "Error code 2152398850";

/** A navigation that may be begun again. */
interface GivenUp {
  readonly url: string;
  readonly start: Start | undefined;
  readonly again: (again: boolean) => void;
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();

export class Navigations {
  readonly #started = new Map<string, Start>();
  readonly #pending = new Set<Promise<void>>();
  readonly #givenUp = new Map<string, GivenUp>();
  /** URLs of navigations that another one of their frame overtook; that they were given up may be told late. */
  readonly #overtaken = new Map<string, string>();
  #ordinal = 0;

  constructor(
    readonly attribution: Attribution, readonly streams: Streams, readonly frames: Frames, readonly documents: Documents,
    readonly wanted: boolean,
  ) {}

  started(details: Details): void {
    const key = `${details.tabId}/${details.frameId}`;
    const before = this.#givenUp.get(key);
    const again = before !== undefined && before.url === details.url;
    if (again) before.again(true);
    const overtaken = this.#started.get(key);
    if (capabilities.restarts && overtaken !== undefined) {
      this.#overtaken.set(key, overtaken.url);
      if (this.#overtaken.size > STARTED) this.#overtaken.delete(this.#overtaken.keys().next().value as string);
    }
    const { url, timeStamp: at } = details;
    this.#started.set(key, (again ? before.start : undefined) ?? { url, ordinal: this.#ordinal++, at });
    if (this.#started.size > STARTED) this.#started.delete(this.#started.keys().next().value as string);
  }

  ended(details: Details, kind: "committed" | "history_state" | "fragment" | "failed"): void {
    if (!this.wanted) return;
    const key = `${details.tabId}/${details.frameId}`;
    const aborted = capabilities.restarts && kind === "failed" && details.error === GIVEN_UP;
    const overtaken = aborted && this.#overtaken.get(key) === details.url;
    if (overtaken) this.#overtaken.delete(key);
    const loads = (kind === "committed" || kind === "failed") && !overtaken;
    const start = loads ? this.#started.get(key) : undefined;
    if (loads) this.#started.delete(key);
    // One that was committed already was not given up for another process, but while its document loaded.
    const givenUp = overtaken || (aborted && start !== undefined);
    const dropped = givenUp ? this.#restarted(key, details.url, start) : Promise.resolve(false);
    const ordinal = this.#ordinal++;
    // Bound now: what the lookups find later does not change whose row it is.
    const owner = this.attribution.knows(details.tabId) ? this.attribution.owner(details.tabId) : undefined;
    const storing = dropped.then((again) => again ? undefined : this.#store(details, kind, start, ordinal, owner));
    const task: Promise<void> = storing.finally(() => this.#pending.delete(task));
    this.#pending.add(task);
  }

  /** Whether a navigation that was given up is begun again in its frame, or goes on with another URL after a redirect. */
  async #restarted(key: string, url: string, start: Start | undefined): Promise<boolean> {
    const again = await new Promise<boolean>((resolve) => {
      this.#givenUp.set(key, { url, start, again: resolve });
      const goesOn = this.documents.goesOn(key, url);
      void goesOn?.then(resolve);
      setTimeout(() => resolve(false), goesOn === undefined ? RESTART_MS : REQUEST_MS);
    });
    if (this.#givenUp.get(key)?.url === url) this.#givenUp.delete(key);
    return again;
  }

  async #store(details: Details, kind: string, start: Start | undefined, ordinal: number, bound: Owner | undefined): Promise<void> {
    if (bound === undefined) await this.attribution.settle(details.tabId);
    const owner = bound ?? this.attribution.owner(details.tabId);
    // The first document of a tab that was made for the visit is nobody's navigation.
    const born = bound === undefined && details.frameId === 0 && details.url === "about:blank";
    if (born && "visit" in owner && owner.visit.firstTab === details.tabId) return;
    const place = await this.#place(details.tabId, kind);
    const row = rowOf(details, kind, start, ordinal, place);
    const at = details.timeStamp * 1000;
    if (!("visit" in owner)) this.streams.add(NO_VISIT, unattributed(at, row, owner.reason));
    else if (owner.visit.navigations) this.streams.add(owner.visit.visitId, recordBytes(at, row));
  }

  async #place(tabId: number, kind: string): Promise<Where> {
    try {
      const tab = await chrome.tabs.get(tabId);
      const { width, height, type } = await chrome.windows.get(tab.windowId);
      return { tab, width, height, windowType: type, opener: tab.openerTabId };
    } catch {
      // The tab is gone, or one of a DevTools context: then its frames tell.
      const place = await this.frames.place(tabId, kind === "committed" ? PLACE_MS : 0);
      const { windowWidth: width, windowHeight: height } = place ?? {};
      return { tab: place?.tab, width, height, windowType: undefined, opener: this.attribution.opener(tabId) };
    }
  }

  removed(tabId: number): void {
    for (const map of [this.#started, this.#overtaken]) {
      for (const key of map.keys()) if (key.startsWith(`${tabId}/`)) map.delete(key);
    }
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

const rowOf = (details: Details, kind: string, start: Start | undefined, ordinal: number, where: Where): Row => {
  const { tab } = where;
  const container = capabilities.containers ? (tab as { cookieStoreId?: string } | undefined)?.cookieStoreId : undefined;
  return {
    case: "navigation",
    value: optional({
      incognito: tab?.incognito ?? false,
      processId: capabilities.processIds ? big(details.processId) : undefined,
      windowId: big(tab?.windowId),
      tabId: BigInt(details.tabId),
      tabOpenerTabId: big(where.opener),
      frameId: BigInt(details.frameId),
      parentFrameId: big(details.parentFrameId),
      windowWidth: big(where.width),
      windowHeight: big(where.height),
      windowType: where.windowType,
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
