// The scripts of workers, as requests: what asks for one says so in its headers, and the hooks are written into the answer.
import { ONCE, CHANNEL } from "../../config";
import type { Attribution, RunningVisit } from "../attribution";
import type { Details, NetworkApi, SendHeaders } from "../network/details";
import { headerOf, headersOf } from "../network/headers";
import { Prefix, writeThrough } from "./prefix";
import type { Workers } from "./workers";

const FILTER = { urls: ["<all_urls>"], types: ["script"] };
const KINDS = ["worker", "sharedworker", "serviceworker"];

export interface Around {
  readonly attribution: Attribution;
  readonly workers: Workers;
  /** Has the prefix written by what captures the body of the request; false: nothing does. */
  readonly capturing: (requestId: string, prefix: Prefix) => boolean;
}

export class WorkerScripts {
  readonly #api: NetworkApi;
  readonly #around: Around;
  /** With the marker of the channel. */
  readonly #script: string;

  constructor(api: NetworkApi, script: string, around: Around) {
    this.#api = api;
    this.#around = around;
    this.#script = script.replaceAll(ONCE, crypto.randomUUID().replaceAll("-", ""));
  }

  /** Registers the listener; call it once, in the first turn of the background. */
  listen(): void {
    this.#api.webRequest.onBeforeSendHeaders.addListener((details) => this.#asked(details), FILTER, ["blocking", "requestHeaders"]);
  }

  #asked(details: SendHeaders): Promise<undefined> | undefined {
    const headers = headersOf(details.requestHeaders);
    const kind = headerOf(headers, "sec-fetch-dest") ?? "";
    return KINDS.includes(kind) ? this.#hook(details, kind, headerOf(headers, "sec-fetch-mode") === "cors") : undefined;
  }

  async #hook(details: Details, kind: string, imported: boolean): Promise<undefined> {
    const visit = await this.#visitOf(details);
    if (visit === undefined || !visit.javascript || visit.closing || visit.sealed) return;
    const { url, originUrl, documentUrl, tabId, frameId, requestId } = details;
    const { workers, capturing } = this.#around;
    const origins = [originUrl, documentUrl].filter((known) => known !== undefined);
    const channel = await workers.channel(visit, { url, origins, tabId, frameId, service: kind === "serviceworker", imported });
    if (channel === undefined) return;
    const prefix = new Prefix(this.#script.replaceAll(CHANNEL, channel.name), (columns) => workers.written(visit, channel, url, columns));
    if (capturing(requestId, prefix)) return;
    try {
      writeThrough(this.#api.webRequest.filterResponseData(requestId), prefix);
    } catch (error) {
      console.error("the script of a worker could not be given its hooks", url, error);
      workers.refused(channel);
    }
  }

  async #visitOf({ tabId, cookieStoreId }: Details): Promise<RunningVisit | undefined> {
    const { attribution } = this.#around;
    let owner = attribution.ownerOfRequest(tabId, cookieStoreId);
    if (owner === undefined) {
      await attribution.settle(tabId);
      owner = attribution.ownerOfRequest(tabId, cookieStoreId);
    }
    return owner !== undefined && "visit" in owner ? owner.visit : undefined;
  }
}
