// The requests of documents, where a navigation is told as given up although it goes on: Firefox does so when the page
// changes its process, and begins it again in the new one. Its request tells which it was.

/** Frames and URLs that are remembered. */
const REMEMBERED = 4096;
const GIVEN_UP = "NS_BINDING_ABORTED";

interface Request {
  readonly ended: Promise<boolean>;
  readonly end: (goesOn: boolean) => void;
}

interface Details {
  readonly requestId: string;
  readonly tabId: number;
  readonly frameId: number;
  readonly url: string;
}

const made = (): Request => {
  let end = (_goesOn: boolean): void => undefined;
  const ended = new Promise<boolean>((resolve) => { end = resolve; });
  return { ended, end };
};

const forgetOldest = <V>(map: Map<string, V>): void => {
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as string);
};

interface Header {
  readonly name: string;
  readonly value?: string | undefined;
}

/** Whether an answer is shown: not one without content, nor a download. */
const isShown = (status: number, headers: readonly Header[] | undefined): boolean =>
  status !== 204 && status !== 205
  && !(headers ?? []).some(({ name, value }) => name.toLowerCase() === "content-disposition" && /^\s*attachment/i.test(value ?? ""));

export class Documents {
  readonly #byId = new Map<string, Request>();
  /** The latest request of a frame that had a URL, before or after a redirect. */
  readonly #byPlace = new Map<string, Request>();

  /** A request or one of its hops begins. */
  begun({ requestId, tabId, frameId, url }: Details): void {
    const request = this.#byId.get(requestId) ?? made();
    this.#byId.set(requestId, request);
    this.#byPlace.set(`${tabId}/${frameId} ${url}`, request);
    forgetOldest(this.#byId);
    forgetOldest(this.#byPlace);
  }

  completed(requestId: string, status: number, headers: readonly Header[] | undefined): void {
    this.#byId.get(requestId)?.end(isShown(status, headers));
    this.#byId.delete(requestId);
  }

  /** After another error than that it was given up, an error page comes. */
  failed(requestId: string, error: string): void {
    this.#byId.get(requestId)?.end(error !== GIVEN_UP);
    this.#byId.delete(requestId);
  }

  /** Whether something to show comes of the latest request that a frame (`tab/frame`) made for a URL; undefined: none. */
  goesOn(place: string, url: string): Promise<boolean> | undefined {
    return this.#byPlace.get(`${place} ${url.split("#", 1)[0] ?? ""}`)?.ended;
  }

  listen(): void {
    const filter: chrome.webRequest.RequestFilter = { urls: ["<all_urls>"], types: ["main_frame", "sub_frame", "object"] as chrome.webRequest.ResourceType[] };
    const { webRequest } = chrome;
    webRequest.onBeforeRequest.addListener((details) => { this.begun(details); return undefined; }, filter);
    webRequest.onCompleted.addListener((details) => this.completed(details.requestId, details.statusCode, details.responseHeaders), filter, ["responseHeaders"]);
    webRequest.onErrorOccurred.addListener((details) => this.failed(details.requestId, details.error), filter);
  }
}
