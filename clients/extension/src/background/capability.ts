// What differs between the browsers, and nothing else of the extension knows which one it is in.

export interface Capabilities {
  /** Whether `documentId` tells documents apart. */
  readonly processIds: boolean;
  /** Whether `tabs.Tab.cookieStoreId` exists. */
  readonly containers: boolean;
  /** Whether `webNavigation.onCreatedNavigationTarget` names a popup's opener. */
  readonly navigationTargets: boolean;
}

const firefox = typeof (globalThis as { browser?: { runtime?: { getBrowserInfo?: unknown } } }).browser?.runtime?.getBrowserInfo === "function";

export const capabilities: Capabilities = {
  processIds: firefox,
  containers: firefox,
  navigationTargets: chrome.webNavigation.onCreatedNavigationTarget !== undefined,
};
