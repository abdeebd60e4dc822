// What differs between the browsers, and nothing else of the extension knows which one it is in.
import type { NetworkApi } from "./network/details";

export interface Capabilities {
  /** Whether `documentId` tells documents apart. */
  readonly processIds: boolean;
  /** Whether `tabs.Tab.cookieStoreId` exists. */
  readonly containers: boolean;
  /** Whether a navigation that changes the process of its page is told of twice: given up, then begun again. */
  readonly restarts: boolean;
  /** Whether `webNavigation.onCreatedNavigationTarget` names a popup's opener. */
  readonly navigationTargets: boolean;
  /** Set where requests tell everything: their tab's container, their bodies, what they wait for. */
  readonly network: NetworkApi | undefined;
}

const { browser } = globalThis as unknown as { browser?: NetworkApi };
const firefox = typeof browser?.runtime?.getBrowserInfo === "function";

export const capabilities: Capabilities = {
  processIds: firefox,
  containers: firefox,
  restarts: firefox,
  navigationTargets: chrome.webNavigation.onCreatedNavigationTarget !== undefined,
  network: firefox && browser?.webRequest?.filterResponseData !== undefined ? browser : undefined,
};
