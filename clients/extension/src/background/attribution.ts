// Which visit a tab belongs to: the tab that navigates to about:blank#visit=TOKEN is a visit's first, and the tabs it
// opens are its own. Bound once; a tab of a visit that is over belongs to none.
import type { RelayStart } from "../gen/sonde/browser/v1/relay_pb";

const TOKEN_URL = /^about:blank#visit=([\w-]+)$/;
const STORED = "sonde.attribution";
const STORED_STORES = "sonde.stores";
/** A popup's opener is told within this time, or not at all. */
const OPENER_MS = 1000;
/** Tabs, and tokens nobody has claimed, that are remembered. */
const REMEMBERED = 1024;

/** Firefox tells a tab's container. */
export type Tab = chrome.tabs.Tab & { readonly cookieStoreId?: string };

export interface RunningVisit {
  readonly visitId: number;
  readonly token: string;
  readonly javascript: boolean;
  readonly navigations: boolean;
  readonly cookies: boolean;
  /** Undefined where the extension does not record the network. */
  readonly network: NetworkWishes | undefined;
  /** Targets of the settings that a top-level document has not; whether for want of a secure address. */
  readonly missingTargets: Map<string, boolean>;
  /** Symbols of which it was said that they are not instrumented. */
  readonly notInstrumented: Set<string>;
  firstTab: number | undefined;
  /** All that is recorded of it is on its way: nothing more of its network leaves the browser. */
  closing: boolean;
  /** The ends of its streams are told: what its pages do from now on belongs to it no more. */
  sealed: boolean;
}

/** What is recorded of a visit's network. */
export interface NetworkWishes {
  readonly http: boolean;
  readonly dns: boolean;
  readonly cookies: boolean;
  readonly maxBodyBytes: number;
  savesContent(resourceType: string): boolean;
}

export type Reason = "tab_unknown" | "visit_ended" | "store_unknown" | "store_shared";
export type Owner = { readonly visit: RunningVisit } | { readonly reason: Reason };

const wishesOf = ({ network }: RelayStart): NetworkWishes | undefined => {
  if (network === undefined) return undefined;
  const { http, dns, cookies, maxBodyBytes } = network;
  const types = new Set(network.saveContent);
  const savesContent = (type: string): boolean => http && (types.has("all") || types.has(type));
  return { http, dns, cookies, maxBodyBytes: Number(maxBodyBytes), savesContent };
};

/** In place of a visit: more than one used the container, so that nothing of it tells whose it is. */
const SHARED = -1;

const forgetOldest = <K>(map: Map<K, unknown>): void => {
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as K);
};

export class Attribution {
  readonly #running = new Map<number, RunningVisit>();
  readonly #visitOfTab = new Map<number, number>();
  /** Containers, by cookie store. */
  readonly #visitOfStore = new Map<string, number>();
  readonly #openers = new Map<number, number>();
  readonly #tokens = new Map<string, number>();
  readonly #waiting = new Map<number, Set<() => void>>();
  readonly #onFirstTab: (visit: RunningVisit) => void;

  constructor(onFirstTab: (visit: RunningVisit) => void) {
    this.#onFirstTab = onFirstTab;
  }

  /** Puts back what an earlier life of this background knew. */
  async restore(): Promise<void> {
    const stored = await chrome.storage.session.get([STORED, STORED_STORES]);
    const [tabs, stores] = [stored[STORED] as [number, number][] | undefined, stored[STORED_STORES] as [string, number][] | undefined];
    for (const [tab, visit] of tabs ?? []) if (!this.#visitOfTab.has(tab)) this.#visitOfTab.set(tab, visit);
    for (const [store, visit] of stores ?? []) if (!this.#visitOfStore.has(store)) this.#visitOfStore.set(store, visit);
  }

  #store(): void {
    const known = { [STORED]: [...this.#visitOfTab], [STORED_STORES]: [...this.#visitOfStore] };
    chrome.storage.session.set(known).catch((error: unknown) => {
      console.error("the tabs of the visits could not be stored", error);
    });
  }

  start(start: RelayStart): RunningVisit {
    const visitId = Number(start.visitId);
    const known = this.#running.get(visitId);
    if (known !== undefined) return known;
    const { token, javascript, navigations, cookies } = start;
    const visit: RunningVisit = {
      visitId, token, javascript, navigations, cookies, network: wishesOf(start), missingTargets: new Map(),
      notInstrumented: new Set(), firstTab: undefined, closing: false, sealed: false,
    };
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

  /**
   * The container of a visit's first tab: whatever happens in it is the visit's, unless another visit runs in it, too.
   * A profile that is kept has the same one for visit after visit.
   */
  container(visit: RunningVisit, store: string | undefined): void {
    if (store === undefined) return;
    const known = this.#visitOfStore.get(store);
    if (known === visit.visitId) return;
    const shared = known !== undefined && (known === SHARED || this.#running.has(known));
    this.#visitOfStore.set(store, shared ? SHARED : visit.visitId);
    forgetOldest(this.#visitOfStore);
    this.#store();
  }

  /** Whose container it is. */
  ownerOfStore(store: string): Owner {
    const visitId = this.#visitOfStore.get(store);
    if (visitId === undefined) return { reason: "store_unknown" };
    if (visitId === SHARED) return { reason: "store_shared" };
    // A sealed visit still has its container: what its disposal takes out of the jar is nobody's doing.
    const visit = this.#running.get(visitId);
    return visit === undefined ? { reason: "visit_ended" } : { visit };
  }

  #ownerOf(visitId: number): Owner {
    const visit = this.#running.get(visitId);
    return visit === undefined || visit.sealed ? { reason: "visit_ended" } : { visit };
  }

  /** Whose request it is, by its tab or its container; undefined: its tab is not settled. */
  ownerOfRequest(tabId: number, store: string | undefined): Owner | undefined {
    if (this.#visitOfTab.has(tabId)) return this.owner(tabId);
    const owner = store === undefined ? undefined : this.ownerOfStore(store);
    if (owner !== undefined && ("visit" in owner || owner.reason === "visit_ended")) return owner;
    return tabId < 0 ? (owner ?? { reason: "store_unknown" }) : undefined;
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
    return visitId === undefined ? { reason: "tab_unknown" } : this.#ownerOf(visitId);
  }

  knows(tabId: number): boolean {
    return this.#visitOfTab.has(tabId);
  }

  /** A tab in a visit's own container is the visit's. */
  #adopt(tabId: number, store: string | undefined): void {
    if (store === undefined || this.knows(tabId)) return;
    const owner = this.ownerOfStore(store);
    if ("visit" in owner) this.#bind(tabId, owner.visit.visitId);
  }

  /** Waits until a new tab's opener is known, or will not be. The tabs API knows no tabs of a DevTools context. */
  async settle(tabId: number): Promise<void> {
    if (this.knows(tabId)) return;
    const tab: Tab | undefined = await chrome.tabs.get(tabId).catch(() => undefined);
    this.opened(tab?.openerTabId, tabId);
    this.#adopt(tabId, tab?.cookieStoreId);
    if (this.knows(tabId)) return;
    await new Promise<void>((resolve) => {
      const waiting = this.#waiting.get(tabId) ?? new Set();
      this.#waiting.set(tabId, waiting.add(resolve));
      setTimeout(resolve, OPENER_MS);
    });
  }
}
