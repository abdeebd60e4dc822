// From requests to rows: what can be recorded now, and what must wait.
import type { Owner } from "../attribution";
import { truncation } from "../calls";
import type { Row } from "../rows";
import type { BodyResult, Capture } from "./bodies";
import { lastHop } from "./exchange";
import type { Exchange, Hop, Reply } from "./exchange";
import { headerOf } from "./headers";
import type { Means, ResolvedHop } from "./means";
import { POST_BODY_CAP } from "./post";
import { failureRow, redirectRow, requestRow, responseRow } from "./rows";
import type { Around, BodyFate } from "./rows";
import { Contexts, resourceType } from "./words";

/** SHA-256 of no bytes. */
export const EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/** Rows of one request whose tab is not settled. */
const HELD = 1024;
/** Of a body whose visit is not known yet. */
const UNSETTLED_BODY = 64 * 1024 * 1024;

const isBodiless = ({ details, reply }: Hop): boolean => {
  const status = reply?.revalidated === true ? undefined : reply?.status;
  return details.method === "HEAD" || (status !== undefined && (status < 200 || [204, 205, 304].includes(status)));
};

/** What is known of an answer made by a service worker. */
const unseen = (at: number): Reply => ({
  at, status: undefined, line: "", headers: [], fromCache: false, revalidated: false, ip: undefined,
});

/** Says itself that it has no body; of preflights nobody can read it. */
const isEmpty = ({ details, sent, reply }: Hop): boolean =>
  headerOf(reply?.headers ?? [], "content-length") === "0"
  || (details.method === "OPTIONS" && headerOf(sent ?? [], "access-control-request-method") !== undefined);

export class Emitter {
  readonly #means: Means;
  readonly #around: Around;
  readonly #done: (exchange: Exchange) => void;
  readonly #waiting = new Map<Exchange, (() => void)[]>();

  /** `done`: all rows of a request are made. */
  constructor(means: Means, done: (exchange: Exchange) => void) {
    this.#means = means;
    this.#around = { windowOf: (tabId) => means.windowOf(tabId), contexts: new Contexts() };
    this.#done = done;
  }

  #wanted(owner: Owner, row: Row): boolean {
    if (!("visit" in owner)) return true;
    const { network } = owner.visit;
    if (network === undefined) return false;
    return row.case === "javascriptCookie" ? network.cookies : network.http;
  }

  row(exchange: Exchange, at: number, row: Row): void {
    const { owner } = exchange;
    if (owner !== undefined) {
      if (this.#wanted(owner, row)) this.#means.record(owner, at, row);
    } else if (exchange.held.length < HELD) {
      exchange.held.push([at, row]);
    } else if (exchange.held.length === HELD) {
      exchange.held.push([at, truncation("http_requests", undefined, "unsettled_rows_cap", 1, 0, HELD, exchange.id)]);
    }
  }

  /** The owner is known now. */
  release(exchange: Exchange): void {
    const { held } = exchange;
    exchange.held = [];
    for (const [at, row] of held) this.row(exchange, at, row);
    this.end(exchange);
  }

  missed(owner: Owner, at: number, reason: string, count: number, limit: number): void {
    this.#means.record(owner, at, truncation("http_requests", undefined, reason, count, 0, limit, undefined));
  }

  resolved(exchange: Exchange, hop: ResolvedHop): void {
    const { owner } = exchange;
    if (owner !== undefined) this.#means.resolved(owner, hop);
    else void exchange.settled.then(() => exchange.owner !== undefined && this.#means.resolved(exchange.owner, hop));
  }

  /** While the owner is unknown the body is taken, as it cannot be had later. */
  wantsBody({ owner }: Exchange, { details }: Hop): boolean {
    if (!/^https?:/.test(details.url)) return false;
    if (owner === undefined) return this.#means.mayWantBody(resourceType(details));
    return "visit" in owner && owner.visit.network !== undefined && owner.visit.network.savesContent(resourceType(details));
  }

  maxBody({ owner }: Exchange): number {
    const network = owner !== undefined && "visit" in owner ? owner.visit.network : undefined;
    return network?.maxBodyBytes ?? UNSETTLED_BODY;
  }

  /** The headers of a request are final. */
  sent(hop: Hop): void {
    this.#around.contexts.note(hop.details, hop.sent ?? []);
  }

  /** The http_requests row of the last hop, unless it is there. */
  #request(exchange: Exchange): void {
    const hop = lastHop(exchange);
    if (hop.recorded) return;
    hop.recorded = true;
    this.row(exchange, hop.at, requestRow(exchange, hop, exchange.hops.length - 1, this.#around));
    const { cut, unavailable } = hop.post;
    if (cut > 0) this.#postCut(exchange, hop, "post_body_cap", cut);
    else if (unavailable !== undefined) {
      this.#postCut(exchange, hop, "post_body_unavailable", Number(headerOf(hop.sent ?? [], "content-length") ?? 1));
    }
  }

  #postCut(exchange: Exchange, hop: Hop, reason: string, bytes: number): void {
    this.row(exchange, hop.at, truncation("http_requests", "post_body_raw", reason, 1, bytes, POST_BODY_CAP, exchange.id));
  }

  /** The last hop led elsewhere. */
  redirect(exchange: Exchange, to: string): void {
    const hop = lastHop(exchange);
    this.#request(exchange);
    if (hop.reply === undefined) return;
    this.row(exchange, hop.reply.at, redirectRow(exchange, hop, exchange.hops.length - 1, hop.reply, to, this.#around));
  }

  /** Makes the last rows of a request that has ended, once its body is known. */
  end(exchange: Exchange): void {
    const { end } = exchange;
    const hop = lastHop(exchange);
    if (end === undefined || exchange.owner === undefined || exchange.done) return;
    if (!this.#withheld(exchange, hop)) this.#request(exchange);
    const reply = hop.reply ?? (hop.intercepted === undefined ? undefined : unseen(hop.intercepted));
    if (reply === undefined) {
      if (end.kind !== "whole") this.row(exchange, end.at, failureRow(exchange, end.failure));
      return this.#finished(exchange);
    }
    const fate = this.#fateOf(exchange, hop);
    if (fate === undefined || hop.tls === "pending") return;
    this.row(exchange, reply.at, responseRow(exchange, reply, fate, this.#around));
    if (end.kind === "failed" && !end.failure.canceled) this.row(exchange, end.at, failureRow(exchange, end.failure));
    this.#finished(exchange);
  }

  /** Kept from leaving by the browser itself (CSP, mixed content, a failed preflight, a page that went first). */
  #withheld({ end }: Exchange, hop: Hop): boolean {
    if (end?.kind !== "failed" || hop.reply !== undefined) return false;
    const { canceled, blockedReason, corsError } = end.failure;
    // Before the preflight of a request the browser says its headers, too.
    return corsError !== undefined || (hop.sent === undefined && (canceled || blockedReason !== undefined || hop.announced));
  }

  #fateOf(exchange: Exchange, hop: Hop): BodyFate | undefined {
    const end = exchange.end;
    const arrived = hop.capture?.bytes ?? 0;
    const seen = arrived > 0 ? arrived : undefined;
    if (exchange.socket) return { outcome: "not_asked" };
    if (end?.kind === "given_up") return { outcome: "aborted", error: "its end was not seen", bytes: seen };
    if (end?.kind === "failed") {
      if (!end.failure.canceled) return { outcome: "aborted", bytes: seen };
      // The page let go of a body that there is not.
      if (!isBodiless(hop)) return { outcome: "aborted", error: "the page gave it up", bytes: seen };
    }
    return this.#whole(exchange, hop, arrived);
  }

  #whole(exchange: Exchange, hop: Hop, arrived: number): BodyFate | undefined {
    const { capture } = hop;
    const wanted = this.wantsBody(exchange, hop);
    if (arrived === 0 && (isBodiless(hop) || isEmpty(hop))) {
      return { outcome: "empty", bytes: 0, contentHash: wanted ? this.#empty(exchange) : undefined };
    }
    if (!wanted) return { outcome: "not_asked" };
    if (capture === undefined) return { outcome: "failed", error: "the browser gave no filter for it" };
    if (capture.result === undefined) return this.#kept(exchange, hop, capture);
    return this.#stored(exchange, hop, capture.result, arrived);
  }

  /** Has a body stored that has gone by wholly. */
  #kept({ owner }: Exchange, hop: Hop, capture: Capture): BodyFate | undefined {
    if (!capture.ended) return undefined;
    const length = headerOf(hop.reply?.headers ?? [], "content-length");
    if (capture.bytes === 0 && length !== undefined && length !== "0") {
      return { outcome: "aborted", error: "the browser did not hand its body over" };
    }
    if (owner !== undefined && "visit" in owner) capture.keep(owner.visit.visitId);
    return undefined;
  }

  #stored(exchange: Exchange, hop: Hop, result: BodyResult, arrived: number): BodyFate {
    switch (result.state) {
      case "capped": return this.#capped(exchange, hop, result.reason, arrived);
      case "failed": return { outcome: "failed", error: result.why, bytes: arrived > 0 ? arrived : undefined };
      case "moved": return { outcome: "failed", error: "the browser took the response elsewhere" };
      case "stored":
        if (result.bytes === 0) return { outcome: "empty", bytes: 0, contentHash: EMPTY_SHA256 };
        return { outcome: "complete", bytes: result.bytes, contentHash: result.sha256 };
    }
  }

  #empty({ owner }: Exchange): string {
    if (owner !== undefined && "visit" in owner) this.#means.storeEmpty(owner.visit);
    return EMPTY_SHA256;
  }

  #capped(exchange: Exchange, hop: Hop, reason: string, bytes: number): BodyFate {
    const limit = reason === "body_cap" ? this.maxBody(exchange) : 0;
    const at = hop.reply?.at ?? hop.at;
    this.row(exchange, at, truncation("http_responses", "content_hash", reason, 1, bytes, limit, exchange.id));
    return { outcome: "capped", bytes };
  }

  #finished(exchange: Exchange): void {
    exchange.done = true;
    for (const { capture } of exchange.hops) capture?.abandon();
    this.#done(exchange);
    const waiting = this.#waiting.get(exchange) ?? [];
    this.#waiting.delete(exchange);
    for (const wake of waiting) wake();
  }

  /**
   * Resolves when all rows of a request are made that has ended, or whose body has: that it is over is told after that.
   * At once for another.
   */
  async ended(exchange: Exchange): Promise<void> {
    const over = exchange.end !== undefined || lastHop(exchange).capture?.ended === true;
    if (!over || exchange.done) return;
    await new Promise<void>((resolve) => this.#waiting.set(exchange, [...(this.#waiting.get(exchange) ?? []), resolve]));
  }
}
