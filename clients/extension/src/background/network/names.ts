// Rows of `dns_responses`. Which address was used is a fact of the request; all the others are from a second look-up
// afterwards, and the rows say so.
import type { Owner } from "../attribution";
import type { Row } from "../rows";
import type { Dns, DnsRecord } from "./details";
import type { ResolvedHop } from "./means";
import { storedUrl } from "./site";

/** Look-ups that are remembered, so that each name is asked for once a visit. */
const REMEMBERED = 2048;

type Answer = { readonly record: DnsRecord } | { readonly error: string };

interface Pending {
  readonly visitId: number;
  readonly emit: (answer: Answer) => void;
  readonly done: Promise<void>;
}

/** A name that is to be resolved; undefined for addresses. */
const nameOf = (url: string): string | undefined => {
  if (!URL.canParse(url)) return undefined;
  const host = new URL(url).hostname;
  return host === "" || /^(?:\[.*\]|\d+\.\d+\.\d+\.\d+)$/.test(host) ? undefined : host;
};

const rowOf = (hop: ResolvedHop, hostname: string, answer: Answer | undefined): Row => {
  const record = answer !== undefined && "record" in answer ? answer.record : undefined;
  const error = hop.error ?? (answer !== undefined && "error" in answer ? answer.error : undefined);
  return {
    case: "dnsResponse",
    value: {
      requestId: BigInt(hop.requestId), hostname, redirectUrl: storedUrl(hop.url),
      source: answer === undefined ? "network_stack" : "second_lookup",
      ...(hop.address === undefined ? {} : { usedAddress: hop.address }),
      ...(error === undefined ? {} : { error }),
      ...(record === undefined ? {} : { addresses: record.addresses.join(","), isTrr: String(record.isTRR) === "true" }),
      ...((record?.canonicalName ?? "") === "" ? {} : { canonicalName: record?.canonicalName }),
    },
  } as Row;
};

export class Names {
  readonly #dns: Dns;
  readonly #record: (owner: Owner, at: number, row: Row) => void;
  readonly #asked = new Map<string, Promise<Answer>>();
  readonly #pending = new Set<Pending>();

  constructor(dns: Dns, record: (owner: Owner, at: number, row: Row) => void) {
    this.#dns = dns;
    this.#record = record;
  }

  resolved(owner: Owner, hop: ResolvedHop): void {
    if (!("visit" in owner) || owner.visit.network?.dns !== true) return;
    const hostname = nameOf(hop.url);
    if (hostname === undefined) return;
    if (hop.error !== undefined) return this.#record(owner, hop.at, rowOf(hop, hostname, undefined));
    const { visitId } = owner.visit;
    let emitted = false;
    const emit = (answer: Answer): void => {
      if (!emitted) this.#record(owner, hop.at, rowOf(hop, hostname, answer));
      emitted = true;
    };
    const pending: Pending = { visitId, emit, done: this.#ask(visitId, hostname).then(emit).finally(() => this.#pending.delete(pending)) };
    this.#pending.add(pending);
  }

  #ask(visitId: number, hostname: string): Promise<Answer> {
    const key = `${visitId} ${hostname}`;
    const known = this.#asked.get(key);
    if (known !== undefined) return known;
    const asked = this.#dns.resolve(hostname, ["canonical_name"]).then(
      (record): Answer => ({ record }),
      (error: unknown): Answer => ({ error: error instanceof Error ? error.message : String(error) }),
    );
    this.#asked.set(key, asked);
    if (this.#asked.size > REMEMBERED) this.#asked.delete(this.#asked.keys().next().value as string);
    return asked;
  }

  /** The end of a visit: what is not answered by the deadline has an error in its row. */
  async finish(visitId: number, deadline: Promise<void>): Promise<void> {
    const own = [...this.#pending].filter((pending) => pending.visitId === visitId);
    await Promise.race([Promise.all(own.map(({ done }) => done)), deadline]);
    for (const { emit } of own) emit({ error: "not answered before the end of the visit" });
    for (const key of this.#asked.keys()) if (key.startsWith(`${visitId} `)) this.#asked.delete(key);
  }
}
