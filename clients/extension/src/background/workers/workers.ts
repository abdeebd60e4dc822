// The workers of visits, where the extension hooks them: their channels, and the rows of what they say.
import { BATCH, HELLO } from "../../handoff";
import type { Attribution, Owner, RunningVisit } from "../attribution";
import { truncation } from "../calls";
import type { Calls, Source } from "../calls";
import type { Frames } from "../frames";
import type { DocumentFacts } from "../javascript";
import { NO_VISIT } from "../streams";
import { Stacks } from "./stacks";

/** How long a worker's script waits for a document that listens to it, in milliseconds; one that comes later asks. */
const LISTEN_MS = 1000;
/** Channels remembered of one visit. */
const REMEMBERED = 4096;
const VISITS = 64;

/** What the browser says of the request for a worker's script. */
export interface WorkerRequest {
  readonly url: string;
  /** Of the document, or of the script that imports it. */
  readonly origins: readonly string[];
  /** -1: of no one tab. */
  readonly tabId: number;
  readonly frameId: number;
  readonly service: boolean;
  /** A module that the worker imports, and not the script that it began with. */
  readonly imported: boolean;
}

/** One worker of a channel. */
interface Worker extends Source {
  readonly serials: Set<number>;
}

export interface Channel {
  readonly name: string;
  readonly request: WorkerRequest;
  readonly workers: Map<string, Worker>;
  /** A script of it went on with the hooks, or could not be given them. */
  due: boolean;
  /** A document has listened to it. */
  heard: boolean;
}

interface Visited {
  readonly visitId: number;
  readonly stacks: Stacks;
  readonly channels: Map<string, Channel>;
  /** Channel by a script's kind and URL: modules that it imports are of the same worker, and so is a service worker's next life. */
  readonly byScript: Map<string, Channel>;
}

const word = (): string => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const originOf = (url: string | undefined): string | undefined => (url !== undefined && URL.canParse(url) ? new URL(url).origin : undefined);

const keyOf = ({ service }: WorkerRequest, url: string): string => `${service ? "service" : "page"} ${url}`;

/** Whether a document hears the workers of a channel. */
const isNear = ({ request }: Channel, facts: DocumentFacts): boolean => {
  if (request.tabId >= 0) return facts.tabId === request.tabId && facts.frameId === request.frameId;
  const origin = originOf(facts.documentUrl);
  return [request.url, ...request.origins].some((url) => originOf(url) === origin);
};

export class Workers {
  readonly #visits = new Map<number, Visited>();
  readonly #attribution: Attribution;
  readonly #frames: Frames;
  readonly #calls: Calls;

  constructor(attribution: Attribution, frames: Frames, calls: Calls) {
    this.#attribution = attribution;
    this.#frames = frames;
    this.#calls = calls;
  }

  #visited(visitId: number): Visited {
    const known = this.#visits.get(visitId);
    if (known !== undefined) return known;
    const made: Visited = { visitId, stacks: new Stacks(), channels: new Map(), byScript: new Map() };
    this.#visits.set(visitId, made);
    // Those that have ended may still be heard of: late rows are nobody's.
    if (this.#visits.size > VISITS) this.#visits.delete(this.#visits.keys().next().value as number);
    return made;
  }

  /**
   * The channel of the worker that a script is for, once a document listens to it; none: there are too many. The script of a service worker has
   * the same one each time: the browser compares it with what it had before.
   */
  async channel(visit: RunningVisit, request: WorkerRequest): Promise<Channel | undefined> {
    const visited = this.#visited(visit.visitId);
    const importer = request.origins.map((url) => keyOf(request, url)).find((key) => visited.byScript.has(key));
    const own = keyOf(request, request.url);
    const same = request.imported ? importer : request.service ? own : undefined;
    const known = same === undefined ? undefined : visited.byScript.get(same);
    if (known === undefined && visited.channels.size >= REMEMBERED) {
      this.#say(visit, "worker_not_hooked", request.url, REMEMBERED);
      return undefined;
    }
    const channel = known ?? this.#open(visited, word(), request);
    visited.byScript.set(own, channel);
    if (!this.#frames.hears(channel.name)) {
      const near = (facts: DocumentFacts): boolean => isNear(channel, facts) && this.#isOf(visit, facts);
      channel.heard ||= await this.#frames.listen(channel.name, near, LISTEN_MS);
    }
    return channel;
  }

  #open({ channels }: Visited, name: string, request: WorkerRequest): Channel {
    const channel: Channel = { name, request, workers: new Map(), due: false, heard: false };
    channels.set(name, channel);
    return channel;
  }

  #say(visit: RunningVisit, reason: string, url: string, limit: number): void {
    this.#calls.other({ visit }, Date.now() * 1000, truncation("javascript", undefined, reason, 0, 0, limit, url));
  }

  #isOf(visit: RunningVisit, facts: DocumentFacts): boolean {
    const owner = this.#attribution.owner(facts.tabId);
    return "visit" in owner && owner.visit === visit;
  }

  /** The script goes on with so many columns before it. */
  written(visit: RunningVisit, channel: Channel, url: string, columns: number): void {
    channel.due = true;
    this.#visited(visit.visitId).stacks.note(url, columns);
  }

  /** The browser would not let the script be changed. */
  refused(channel: Channel): void {
    channel.due = true;
  }

  /** The channels that a new document is to listen to. */
  names(facts: DocumentFacts): readonly string[] {
    const owner = this.#attribution.owner(facts.tabId);
    const visited = "visit" in owner ? this.#visits.get(owner.visit.visitId) : undefined;
    const near = [...(visited?.channels.values() ?? [])].filter((channel) => isNear(channel, facts));
    // A worker of one document goes with it.
    return near.filter(({ request, heard }) => request.tabId < 0 || !heard).map(({ name }) => name);
  }

  /** What a worker said, in a document that listens to it. Two documents may tell the same. */
  heard(facts: DocumentFacts, name: string, message: string): void {
    const owner = this.#attribution.owner(facts.tabId);
    // Of a channel that this life of the background did not make the document is all that is known.
    const visited = [...this.#visits.values()].find(({ channels }) => channels.has(name))
      ?? this.#visited("visit" in owner ? owner.visit.visitId : NO_VISIT);
    const { documentUrl: url = "", tabId, frameId } = facts;
    const channel = visited.channels.get(name) ?? this.#open(visited, name, { url, origins: [], tabId, frameId, service: false, imported: false });
    const line = message.slice(1, message.indexOf("\n"));
    const rest = message.slice(message.indexOf("\n") + 1);
    const [id, serial, first] = line.split(" ") as [string, string | undefined, string | undefined];
    const worker = channel.workers.get(id) ?? this.#begin(channel, facts, id, channel.request.url);
    if (message[0] === HELLO) {
      worker.facts.documentUrl = rest;
      worker.prefix = undefined;
    } else if (message[0] === BATCH && !worker.serials.has(Number(serial))) {
      worker.serials.add(Number(serial));
      this.#calls.batch(worker, this.#ownerOf(visited, owner), Number(first), rest, visited.stacks.original);
    }
  }

  #ownerOf({ visitId }: Visited, owner: Owner): Owner {
    if (!("visit" in owner)) return owner;
    return owner.visit.visitId === visitId ? owner : { reason: "visit_ended" };
  }

  /** Shared and service workers are of no one page. */
  #begin({ workers, request }: Channel, { incognito, windowId, tabId, topLevelUrl }: DocumentFacts, id: string, documentUrl: string): Worker {
    const common = { frameId: -1, documentId: undefined, documentUrl };
    const facts: DocumentFacts = request.tabId < 0
      ? { ...common, incognito, windowId: undefined, tabId: -1, topLevelUrl: undefined }
      : { ...common, incognito, windowId, tabId, topLevelUrl };
    const worker: Worker = { facts, prefix: undefined, serials: new Set() };
    workers.set(id, worker);
    return worker;
  }

  /** At a visit's end, when its frames are flushed: says what may be missing. */
  finish(visit: RunningVisit): void {
    const channels = this.#visits.get(visit.visitId)?.channels.values() ?? [];
    for (const { name, due, workers, request } of channels) {
      if (!due) continue;
      const silent = workers.size === 0 && !request.service;
      const reason = silent ? "worker_not_hooked" : this.#frames.hears(name) || request.tabId >= 0 ? undefined : "worker_not_heard";
      if (reason !== undefined) this.#say(visit, reason, request.url, 0);
    }
  }
}
