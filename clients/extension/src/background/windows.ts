// Which window a tab is in, for rows that cannot wait for an answer of the tabs API.

/** Tabs remembered. */
const REMEMBERED = 1024;
/** The last records of a tab come after it is gone. */
const LINGER_MS = 5000;

export class Windows {
  readonly #windows = new Map<number, number>();

  moved(tabId: number, windowId: number): void {
    this.#windows.set(tabId, windowId);
    if (this.#windows.size > REMEMBERED) this.#windows.delete(this.#windows.keys().next().value as number);
  }

  removed(tabId: number): void {
    setTimeout(() => this.#windows.delete(tabId), LINGER_MS);
  }

  of(tabId: number): number | undefined {
    return this.#windows.get(tabId);
  }
}
