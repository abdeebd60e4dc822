// Which visit a tab belongs to: the tab that navigates to about:blank#visit=TOKEN is a visit's first, and the tabs it
// opens are its own. Bound once; a tab of a visit that is over belongs to none.
import type { RelayStart } from "../gen/sonde/browser/v1/relay_pb";

const TOKEN_URL = /^about:blank#visit=([\w-]+)$/;
const STORED = "sonde.attribution";
/** A popup's opener is told within this time, or not at all. */
const OPENER_MS = 1000;
/** Tabs, and tokens nobody has claimed, that are remembered. */
const REMEMBERED = 1024;

export interface RunningVisit {
  readonly visitId: number;
  readonly token: string;
  readonly javascript: boolean;
  readonly navigations: boolean;
  readonly cookies: boolean;
  firstTab: number | undefined;
}

export type Owner = { readonly visit: RunningVisit } | { readonly reason: "tab_unknown" | "visit_ended" };

const forgetOldest = <K>(map: Map<K, unknown>): void => {
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as K);
};

export class Attribution {
  readonly #running = new Map<number, RunningVisit>();
  readonly #visitOfTab = new Map<number, number>();
  readonly #openers = new Map<number, number>();
  readonly #tokens = new Map<string, number>();
  readonly #waiting = new Map<number, Set<() => void>>();
  readonly #onFirstTab: (visit: RunningVisit) => void;

  constructor(onFirstTab: (visit: RunningVisit) => void) {
    this.#onFirstTab = onFirstTab;
  }

  /** Puts back what an earlier life of this background knew. */
  async restore(): Promise<void> {
    const stored = (await chrome.storage.session.get(STORED))[STORED] as [number, number][] | undefined;
    for (const [tab, visit] of stored ?? []) if (!this.#visitOfTab.has(tab)) this.#visitOfTab.set(tab, visit);
  }

  #store(): void {
    chrome.storage.session.set({ [STORED]: [...this.#visitOfTab] }).catch((error: unknown) => {
      console.error("the tabs of the visits could not be stored", error);
    });
  }

  start(start: RelayStart): RunningVisit {
    const visitId = Number(start.visitId);
    const known = this.#running.get(visitId);
    if (known !== undefined) return known;
    const { token, javascript, navigations, cookies } = start;
    const visit: RunningVisit = { visitId, token, javascript, navigations, cookies, firstTab: undefined };
    this.#running.set(visitId, visit);
    const early = this.#tokens.get(token);
    if (early !== undefined) this.#claim(visit, early);
    for (const [tab, owner] of this.#visitOfTab) if (owner === visitId) visit.firstTab ??= tab;
    return visit;
  }

  end(visitId: number): void {
    this.#running.delete(visitId);
  }

  get running(): readonly RunningVisit[] {
    return [...this.#running.values()];
  }

  visit(visitId: number): RunningVisit | undefined {
    return this.#running.get(visitId);
  }

  /** Whether the URL is that of a visit's first tab; binds the tab. */
  token(tabId: number, url: string): boolean {
    const token = TOKEN_URL.exec(url)?.[1];
    if (token === undefined) return false;
    const visit = this.running.find((running) => running.token === token);
    if (visit === undefined) {
      this.#tokens.set(token, tabId);
      forgetOldest(this.#tokens);
    } else if (visit.firstTab === undefined) {
      this.#claim(visit, tabId);
    }
    return true;
  }

  #claim(visit: RunningVisit, tabId: number): void {
    this.#tokens.delete(visit.token);
    visit.firstTab = tabId;
    this.#bind(tabId, visit.visitId);
    this.#onFirstTab(visit);
  }

  #bind(tabId: number, visitId: number): void {
    this.#visitOfTab.set(tabId, visitId);
    forgetOldest(this.#visitOfTab);
    this.#store();
    const waiting = this.#waiting.get(tabId);
    this.#waiting.delete(tabId);
    for (const wake of waiting ?? []) wake();
  }

  opener(tabId: number): number | undefined {
    return this.#openers.get(tabId);
  }

  /** A tab opened another. */
  opened(openerTabId: number | undefined, tabId: number): void {
    if (openerTabId === undefined) return;
    this.#openers.set(tabId, openerTabId);
    forgetOldest(this.#openers);
    if (this.#visitOfTab.has(tabId)) return;
    const visitId = this.#visitOfTab.get(openerTabId);
    if (visitId !== undefined) this.#bind(tabId, visitId);
  }

  removed(tabId: number): void {
    const visitId = this.#visitOfTab.get(tabId);
    // Kept while the visit runs: the last records of a tab come after it is gone.
    if (visitId !== undefined && this.#running.has(visitId)) return;
    this.#visitOfTab.delete(tabId);
    this.#store();
  }

  owner(tabId: number): Owner {
    const visitId = this.#visitOfTab.get(tabId);
    if (visitId === undefined) return { reason: "tab_unknown" };
    const visit = this.#running.get(visitId);
    return visit === undefined ? { reason: "visit_ended" } : { visit };
  }

  knows(tabId: number): boolean {
    return this.#visitOfTab.has(tabId);
  }

  /** Waits until a new tab's opener is known, or will not be. The tabs API knows no tabs of a DevTools context. */
  async settle(tabId: number): Promise<void> {
    if (this.knows(tabId)) return;
    const opener = await chrome.tabs.get(tabId).then((tab) => tab.openerTabId, () => undefined);
    this.opened(opener, tabId);
    if (this.knows(tabId)) return;
    await new Promise<void>((resolve) => {
      const waiting = this.#waiting.get(tabId) ?? new Set();
      this.#waiting.set(tabId, waiting.add(resolve));
      setTimeout(resolve, OPENER_MS);
    });
  }
}
