// What kind of resource a request is for, and what kind of context made it, in the words that the rows of Chromium have.
import type { Details } from "./details";
import { headerOf } from "./headers";
import type { Headers } from "./headers";

const TYPES: Readonly<Record<string, string>> = { imageset: "image", object_subrequest: "object", json: "script" };

export const resourceType = ({ type }: Details): string => TYPES[type] ?? type;

/** EventSources and preflights are of the type of fetches; their headers tell. */
export const isXhr = (details: Details, headers: Headers): boolean => {
  if (details.type !== "xmlhttprequest") return false;
  if (details.method === "OPTIONS" && headerOf(headers, "access-control-request-method") !== undefined) return false;
  return !(details.method === "GET" && headerOf(headers, "accept") === "text/event-stream");
};

const KINDS: Readonly<Record<string, string>> = { worker: "worker", sharedworker: "shared_worker", serviceworker: "service_worker" };
/** Scripts of workers, and tabs, that are remembered. */
const REMEMBERED = 4096;

interface Worker {
  readonly kind: string;
  /** URL of the top-level document of its owner. */
  readonly top: string | undefined;
}

const forgetOldest = <K>(map: Map<K, unknown>): void => {
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as K);
};

const isOpaque = (url: string): boolean => /^(?:blob|data):/.test(url);

/** The contexts that requests do not name: workers, by the scripts they were started with, and the tabs of their owners. */
export class Contexts {
  readonly #workers = new Map<string, Worker>();
  readonly #tops = new Map<number, string>();

  static #key(details: Details, url: string): string {
    return `${details.cookieStoreId ?? ""} ${url}`;
  }

  #of(details: Details): Worker | undefined {
    const { originUrl } = details;
    return originUrl === undefined ? undefined : this.#workers.get(Contexts.#key(details, originUrl));
  }

  /** Learns from a request that was sent. */
  note(details: Details, headers: Headers): void {
    if (details.type === "main_frame") {
      this.#tops.set(details.tabId, details.url);
      forgetOldest(this.#tops);
    }
    const kind = KINDS[headerOf(headers, "sec-fetch-dest") ?? ""];
    // Modules that a worker imports have its destination as well; their origin is its script.
    if (kind === undefined || this.#of(details)?.kind === kind) return;
    const top = details.frameAncestors?.at(-1)?.url ?? this.topOf(details) ?? details.documentUrl;
    this.#workers.set(Contexts.#key(details, details.url), { kind, top });
    forgetOldest(this.#workers);
  }

  /** What kind of worker made a request; undefined: none that is known. */
  kindOf(details: Details): string | undefined {
    const known = this.#of(details)?.kind;
    if (known !== undefined || details.originUrl === undefined) return known;
    // The top document is never a blob that script made, but a worker's script often is.
    return details.tabId >= 0 && details.frameId === 0 && isOpaque(details.originUrl) ? "worker" : undefined;
  }

  /** URL of the top-level document of the worker that made a request. */
  topOf(details: Details): string | undefined {
    return this.#of(details)?.top ?? (this.kindOf(details) === "worker" ? this.#tops.get(details.tabId) : undefined);
  }
}

/** page, iframe, worker, shared_worker or service_worker; undefined where the browser does not tell. */
export const contextType = (details: Details, headers: Headers, contexts: Contexts): string | undefined => {
  const worker = contexts.kindOf(details);
  if (details.tabId < 0) return worker ?? KINDS[headerOf(headers, "sec-fetch-dest") ?? ""];
  if (worker === "worker") return worker;
  return details.frameId === 0 ? "page" : "iframe";
};
