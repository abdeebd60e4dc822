// From webRequest's events to requests with their hops: what each event changes. Rows are made in emit.ts.
//
// Firefox says onSendHeaders of requests that a preflight then keeps from leaving, and of answers from its cache; of
// answers that a service worker makes it says nothing at all after the redirect to the worker. So a request's row waits
// until it is answered or over.
import type { Owner, RunningVisit } from "../attribution";
import { NO_VISIT } from "../streams";
import type { Answered, BeforeRequest, Blocking, Details, Failed, Redirected, SecurityInfo, SendHeaders } from "./details";
import type { Capture } from "./bodies";
import { Emitter } from "./emit";
import { UNFINISHED, failureOf, unknownScheme } from "./errors";
import { lastHop } from "./exchange";
import type { End, Exchange, Hop, Reply } from "./exchange";
import { headersOf } from "./headers";
import type { Means } from "./means";
import { NO_BODY, postBody } from "./post";
import { setCookieRows } from "./setcookies";
import { tlsJson } from "./tls";

/** Requests followed at once; those beyond are counted in a truncation record. */
const MAX_OPEN = 20_000;
/** Ended requests remembered, so that late events do not count as unknown. */
const MAX_GONE = 50_000;

const micros = (details: Details): number => Math.round(details.timeStamp * 1000);

const newHop = (details: Details, announced: boolean): Hop => ({
  details, at: micros(details), post: NO_BODY, sent: undefined, sentAt: undefined, reply: undefined, capture: undefined,
  tls: undefined, recorded: false, announced, intercepted: undefined,
});

const replyOf = (details: Answered): Reply => ({
  at: micros(details), status: details.statusCode, line: details.statusLine, headers: headersOf(details.responseHeaders),
  fromCache: details.fromCache ?? false, revalidated: false, ip: details.ip ?? undefined,
});

const isOver = (owner: Owner): boolean =>
  "visit" in owner ? owner.visit.closing && owner.visit.network !== undefined : owner.reason === "visit_ended";

const isHttp = (url: string): boolean => /^(?:https?|wss?):/.test(url);

export class NetworkTracker {
  readonly #open = new Map<string, Exchange>();
  readonly #gone = new Set<string>();
  /** What was not recorded, by visit and reason. */
  readonly #missed = new Map<number, Map<string, number>>();
  readonly #emit: Emitter;

  constructor(readonly means: Means) {
    this.#emit = new Emitter(means, (exchange) => this.#forget(exchange));
  }

  /** Requests whose end is not known. */
  get open(): number {
    return this.#open.size;
  }

  #forget(exchange: Exchange): void {
    this.#open.delete(exchange.id);
    this.#gone.add(exchange.id);
    if (this.#gone.size > MAX_GONE) this.#gone.delete(this.#gone.values().next().value as string);
  }

  #miss(owner: Owner | undefined, reason: string): void {
    const visitId = owner !== undefined && "visit" in owner ? owner.visit.visitId : NO_VISIT;
    const counts = this.#missed.get(visitId) ?? new Map<string, number>();
    this.#missed.set(visitId, counts.set(reason, (counts.get(reason) ?? 0) + 1));
  }

  onBeforeRequest(details: BeforeRequest): Blocking | undefined {
    const known = this.#open.get(details.requestId);
    const owner = known === undefined ? this.means.owner(details) : known.owner;
    // The visit is over: what its pages would still ask for would reach the site and no row of it.
    if (owner !== undefined && isOver(owner)) return { cancel: true };
    if (owner !== undefined && "visit" in owner && owner.visit.network === undefined) return undefined;
    if (known !== undefined) {
      this.#nextHop(known, details);
      return undefined;
    }
    if (this.#open.size >= MAX_OPEN) {
      this.#miss(owner, "open_requests_cap");
      return undefined;
    }
    const exchange: Exchange = {
      id: details.requestId, owner, held: [], settled: Promise.resolve(), hops: [], end: undefined, done: false,
      socket: details.type === "websocket",
    };
    if (owner === undefined) exchange.settled = this.#settle(exchange, details);
    this.#open.set(exchange.id, exchange);
    this.#addHop(exchange, details);
    return undefined;
  }

  async #settle(exchange: Exchange, details: Details): Promise<void> {
    exchange.owner = await this.means.settle(details);
    this.#emit.release(exchange);
  }

  /** The target of a redirect, or the same hop again, as its service worker let it pass. */
  #nextHop(exchange: Exchange, details: BeforeRequest): void {
    const last = lastHop(exchange);
    if (!last.announced && last.intercepted === undefined) return;
    exchange.hops.pop();
    last.capture?.abandon();
    this.#addHop(exchange, details);
  }

  #addHop(exchange: Exchange, details: BeforeRequest): void {
    const hop: Hop = { ...newHop(details, false), post: postBody(details.requestBody) };
    exchange.hops.push(hop);
    if (exchange.socket || !this.#emit.wantsBody(exchange, hop)) return;
    const capture = this.means.capture(exchange.id, {
      maxBytes: this.#emit.maxBody(exchange),
      changed: () => this.#bodyChanged(exchange, hop),
    });
    if ("error" in capture) this.#miss(exchange.owner, "body_filter_refused");
    else hop.capture = capture;
  }

  /** What captures the body of a request now. */
  captureOf(requestId: string): Capture | undefined {
    const exchange = this.#open.get(requestId);
    return exchange === undefined ? undefined : lastHop(exchange).capture;
  }

  #bodyChanged(exchange: Exchange, hop: Hop): void {
    if (exchange.done || hop !== lastHop(exchange)) return;
    // The end of its body is all that the browser tells of an answer made by a service worker.
    if (hop.intercepted !== undefined && hop.capture?.ended === true) exchange.end ??= { kind: "whole", at: this.means.now() };
    this.#emit.end(exchange);
  }

  /** The request that an event is about; undefined when it is not followed. */
  #find(details: Details): Exchange | undefined {
    const exchange = this.#open.get(details.requestId);
    if (exchange !== undefined || this.#gone.has(details.requestId)) return exchange;
    const owner = this.means.owner(details);
    const recorded = owner !== undefined && "visit" in owner && owner.visit.network !== undefined;
    if (recorded && !isOver(owner)) this.#miss(owner, "event_without_request");
    return undefined;
  }

  onSendHeaders(details: SendHeaders): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    const hop = lastHop(exchange);
    // Sent again with credentials: the row is that of the first time.
    if (hop.sent !== undefined) return;
    hop.sent = headersOf(details.requestHeaders);
    hop.sentAt = micros(details);
    this.#emit.sent(hop);
  }

  onHeadersReceived(details: Answered): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    const hop = lastHop(exchange);
    const reply = replyOf(details);
    if (hop.reply?.status === 304 && reply.fromCache) {
      hop.reply.fromCache = true;
      hop.reply.revalidated = true;
      return;
    }
    hop.reply = reply;
    if (!reply.fromCache) {
      for (const row of setCookieRows(hop.details, reply.headers, reply.at)) this.#emit.row(exchange, reply.at, row);
      this.#resolved(exchange, hop, reply.ip, undefined);
    }
    if (exchange.socket && reply.status === 101) this.#end(exchange, { kind: "whole", at: reply.at });
  }

  #resolved(exchange: Exchange, hop: Hop, address: string | undefined, error: string | undefined): void {
    const at = hop.reply?.at ?? this.means.now();
    this.#emit.resolved(exchange, { requestId: exchange.id, url: hop.details.url, at, address, error });
  }

  /** The connection of the last hop was asked for its TLS facts. */
  async onSecurity(requestId: string, asked: Promise<SecurityInfo>): Promise<void> {
    const exchange = this.#open.get(requestId);
    const hop = exchange === undefined ? undefined : lastHop(exchange);
    if (hop !== undefined) hop.tls = "pending";
    // The request may be over before the answer: then there is none.
    const info = await asked.catch(() => undefined);
    if (exchange === undefined || hop === undefined) return;
    hop.tls = info === undefined ? undefined : tlsJson(info);
    this.#emit.end(exchange);
  }

  onResponseStarted(details: Answered): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    const hop = lastHop(exchange);
    hop.reply ??= replyOf(details);
    hop.reply.ip ??= details.ip ?? undefined;
    if (details.fromCache === true) hop.reply.fromCache = true;
  }

  onBeforeRedirect(details: Redirected): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    const hop = lastHop(exchange);
    // To a service worker: no hop.
    if (details.redirectUrl === details.url && details.statusCode === 0) {
      hop.intercepted = micros(details);
      if (hop.capture?.ended === true) this.#bodyChanged(exchange, hop);
      return;
    }
    hop.reply ??= replyOf(details);
    hop.capture?.abandon();
    this.#emit.redirect(exchange, details.redirectUrl);
    exchange.hops.push(newHop({ ...hop.details, url: details.redirectUrl, timeStamp: details.timeStamp }, true));
    if (!isHttp(details.redirectUrl)) {
      this.#end(exchange, { kind: "failed", at: micros(details), failure: unknownScheme(details.redirectUrl) });
    }
  }

  onCompleted(details: Answered): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    this.onResponseStarted(details);
    this.#end(exchange, { kind: "whole", at: micros(details) });
  }

  onErrorOccurred(details: Failed): void {
    const exchange = this.#find(details);
    if (exchange === undefined) return;
    const failure = failureOf(details.error);
    if (failure.error === "net::ERR_NAME_NOT_RESOLVED") this.#resolved(exchange, lastHop(exchange), undefined, failure.error);
    this.#end(exchange, { kind: "failed", at: micros(details), failure });
  }

  #end(exchange: Exchange, end: End): void {
    exchange.end ??= end;
    this.#emit.end(exchange);
  }

  /**
   * The end of a visit that is closing: waits until the deadline for bodies under way, then records what is open as it
   * is. Requests of the visit that come later are cancelled.
   */
  async finish(visit: RunningVisit, deadline: Promise<void>): Promise<void> {
    const all = [...this.#open.values()];
    await Promise.race([Promise.all(all.map((exchange) => exchange.settled)), deadline]);
    const own = all.filter(({ owner }) => owner !== undefined && "visit" in owner && owner.visit === visit);
    await Promise.race([Promise.all(own.map((exchange) => this.#emit.ended(exchange))), deadline]);
    const at = this.means.now();
    for (const exchange of own) {
      if (exchange.done) continue;
      // Of an answer made by a service worker, whose body nobody asked for, nothing more is told.
      const answered = lastHop(exchange).intercepted !== undefined;
      exchange.end ??= answered ? { kind: "whole", at } : { kind: "given_up", at, failure: UNFINISHED };
      for (const hop of exchange.hops) {
        hop.capture?.abandon();
        if (hop.tls === "pending") hop.tls = undefined;
      }
      this.#emit.end(exchange);
    }
    const missed = this.#missed.get(visit.visitId) ?? new Map<string, number>();
    this.#missed.delete(visit.visitId);
    for (const [reason, count] of missed) this.#emit.missed({ visit }, at, reason, count, reason.endsWith("_cap") ? MAX_OPEN : 0);
  }
}
