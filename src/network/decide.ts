// What a sandbox may be told about a name, and which addresses that opens: pure, from the question, its egress and the answer.

import { isReachable, parseAddress, type Cidr } from "#model/address.ts";
import { isNamed, neverAsked, ownName, portsAt, privateZones, type Entry, type Permit } from "#model/egress.ts";
import { resolverLimits } from "#model/limits.ts";

export type Rcode = "NOERROR" | "FORMERR" | "SERVFAIL" | "NXDOMAIN" | "NOTIMP" | "REFUSED";

export interface Question {
  /** Lower case, no final dot; "" is the root. */
  readonly name: string;
  /** "A", "MX", …; what ebb does not know is TYPEn (RFC 3597). */
  readonly type: string;
}

export interface AnswerRecord {
  /** Lower case, no final dot. */
  readonly name: string;
  readonly type: string;
  readonly ttlSeconds: number;
  /** In dns-packet's form for the type; an address as text for A. */
  readonly data: unknown;
}

/** What a resolver of the host's answered; already known to belong to the question. */
export interface UpstreamAnswer {
  readonly rcode: Rcode;
  readonly truncated: boolean;
  readonly records: readonly AnswerRecord[];
  /** At most the SOA of a negative answer. */
  readonly authority: readonly AnswerRecord[];
}

export interface Reply {
  readonly rcode: Rcode;
  readonly records: readonly AnswerRecord[];
  readonly authority: readonly AnswerRecord[];
  /** Why something is missing, for an Extended DNS Error; null: nothing was blocked. */
  readonly blocked: string | null;
}

/** An address that the reply makes known, for as long. Allow-lists open just these; `internet` needs no opening. */
export interface Opened {
  readonly address: string;
  readonly ttlSeconds: number;
}

export interface Rules {
  readonly egress: "none" | "internet" | readonly Entry[];
  /** ebb's address on every link. */
  readonly gateway: string;
  /** Private networks that the operator opened to the project. */
  readonly permits: readonly Permit[];
  /** Domains in which the host itself looks for names; lower case, of two labels or more. */
  readonly hostDomains: readonly string[];
}

export type QueryDecision =
  | {
      readonly kind: "reply";
      readonly reply: Reply;
      readonly opened: readonly Opened[];
      readonly reasons: readonly string[];
    }
  | { readonly kind: "ask"; readonly reasons: readonly string[] };

export interface AnswerDecision {
  readonly reply: Reply;
  readonly opened: readonly Opened[];
  readonly reasons: readonly string[];
}

/**
 * What is asked upstream. Others are answered empty: AAAA because there is no IPv6 inside; HTTPS and SVCB because their hints
 * carry addresses past the checks of A; ANY, signatures and keys because nobody inside needs them (RFC 8482).
 */
const askedTypes: ReadonlySet<string> = new Set(["A", "CNAME", "MX", "TXT", "SRV", "NS", "SOA", "PTR", "NAPTR", "CAA"]);
const chainMax = 16;

function reply(rcode: Rcode, records: readonly AnswerRecord[] = [], blocked: string | null = null): Reply {
  return { rcode, records, authority: [], blocked };
}

function answered(reply: Reply, reason: string): QueryDecision {
  return { kind: "reply", reply, opened: [], reasons: [reason] };
}

/** Before anybody is asked: ebb answers by itself, refuses, or the answer must be fetched. */
export function decideQuery(question: Question, rules: Rules): QueryDecision {
  const { name, type } = question;
  if (isOrUnder(name, ownName)) {
    const records = type === "A" ? [address(name, rules.gateway, resolverLimits.ownTtlSeconds)] : [];
    return answered(reply("NOERROR", records), "ebb's own name");
  }
  if (isOrUnder(name, "localhost")) {
    const records = type === "A" ? [address(name, "127.0.0.1", resolverLimits.ownTtlSeconds)] : [];
    return answered(reply("NOERROR", records), "loopback of the sandbox itself (RFC 6761)");
  }
  // NXDOMAIN, not REFUSED: libc turns REFUSED into "temporary failure", which programs retry
  if (rules.egress === "none") return answered(reply("NXDOMAIN", [], "egress is none"), "egress none");
  if (typeof rules.egress !== "string" && !isNamed(rules.egress, name))
    return answered(reply("NXDOMAIN", [], "not in the egress list"), "it is not in the egress list");
  if (!askedTypes.has(type)) return answered(reply("NOERROR"), `type ${type} is always empty`);
  const labels = name.split(".");
  const top = labels.at(-1)!;
  if (neverAsked.has(top)) return answered(reply("NXDOMAIN"), `.${top} never leaves the machine`);
  if (labels.length === 1 && name !== "")
    return answered(reply("NXDOMAIN"), "a name without a dot would be one of the host's network");
  // Where the operator opened a private network its names lead there, and no further than the check of their addresses.
  if (privateZones.has(top) && (type !== "A" || rules.permits.length === 0))
    return answered(
      reply("NXDOMAIN", [], typeof rules.egress === "string" ? null : "none is permitted"),
      `.${top} is a private network's, and none is permitted`,
    );
  if (top === "arpa" && !isPublicReverse(labels, rules))
    return answered(reply("NXDOMAIN"), "reverse name of an address that is not public");
  // The same domain may be served outside: its addresses are asked, and told where they are public.
  if (type !== "A" && isInner(name, rules))
    return answered(reply("NOERROR", [], "of the host's own network"), "a domain in which the host looks for names");
  return { kind: "ask", reasons: ["public name"] };
}

/**
 * What of an upstream answer is told, `ageSeconds` after it came. Only the chain that starts at the question is kept, and of
 * its addresses only those that the sandbox may reach: a public name for a private address (DNS rebinding) has none. Nor does
 * an alias from outside lead to other records of an inner name.
 */
export function decideAnswer(
  question: Question,
  rules: Rules,
  answer: UpstreamAnswer,
  ageSeconds: number,
): AnswerDecision {
  if (answer.rcode !== "NOERROR" && answer.rcode !== "NXDOMAIN")
    return { reply: reply("SERVFAIL"), opened: [], reasons: [`upstream says ${answer.rcode}`] };
  const aged = (record: AnswerRecord): AnswerRecord => ({
    ...record,
    ttlSeconds: Math.max(0, clamp(record.ttlSeconds, resolverLimits.ttlSeconds) - Math.max(0, Math.floor(ageSeconds))),
  });
  const reasons: string[] = [];
  const records: AnswerRecord[] = [];
  const opened: Opened[] = [];
  let addresses = 0;
  let inner = 0;
  let openings = 0;
  const chain = chainOf(question, answer.records);
  for (const record of chain) {
    const told = aged(record);
    if (record.type === "A") {
      const value = typeof record.data === "string" ? parseAddress(record.data) : null;
      const ports = value === null ? 0 : portsOpen(question.name, value, rules);
      if (ports === 0 || openings + ports > resolverLimits.openings) {
        addresses++;
        reasons.push(`${String(record.data)} is ${ports === 0 ? "not reachable" : "one too many"}`);
        continue;
      }
      openings += ports;
      opened.push({ address: String(record.data), ttlSeconds: told.ttlSeconds });
    } else if (question.type !== "A" && isInner(record.name, rules)) {
      inner++;
      reasons.push(`${record.name} is of the host's own network`);
      continue;
    }
    records.push(told);
  }
  const blocked =
    addresses > 0
      ? `${counted(addresses, "address", "addresses")} withheld: not public`
      : inner > 0
        ? `${counted(inner, "record", "records")} withheld: of the host's own network`
        : null;
  // an alias to nowhere, or a zone's head, would only tell the names of somebody's network
  const hidden =
    opened.length === 0 && (blocked !== null || [question, ...chain].some(({ name }) => isInner(name, rules)));
  if (hidden) records.length = 0;
  const negative = !hidden && !records.some((record) => record.type === question.type);
  return {
    reply: { rcode: answer.rcode, records, authority: negative ? answer.authority.map(aged) : [], blocked },
    opened,
    reasons,
  };
}

function counted(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}

/** May its zone be served by the host's network, whose resolvers are the ones that are asked? */
function isInner(name: string, rules: Rules): boolean {
  if (name === "") return false;
  const top = name.slice(name.lastIndexOf(".") + 1);
  return top === name || privateZones.has(top) || rules.hostDomains.some((domain) => isOrUnder(name, domain));
}

/** The CNAMEs from the question on, and the records of its type at their end; DNAME is not followed (its CNAME comes with it). */
function chainOf(question: Question, records: readonly AnswerRecord[]): readonly AnswerRecord[] {
  const chain: AnswerRecord[] = [];
  const seen = new Set<string>();
  let name = question.name;
  while (!seen.has(name) && seen.size < chainMax) {
    seen.add(name);
    const at = name;
    chain.push(...records.filter((record) => record.name === at && record.type === question.type));
    if (question.type === "CNAME") break;
    const alias = records.find((record) => record.name === at && record.type === "CNAME");
    if (!alias || typeof alias.data !== "string") break;
    chain.push(alias);
    name = alias.data.toLowerCase().replace(/\.$/, "");
  }
  return chain;
}

/** How long an upstream answer may be kept; 0: not at all. RFC 2308 for negative ones. */
export function keepSeconds(question: Question, answer: UpstreamAnswer): number {
  if (answer.truncated || (answer.rcode !== "NOERROR" && answer.rcode !== "NXDOMAIN")) return 0;
  const chain = chainOf(question, answer.records);
  if (answer.rcode === "NOERROR" && chain.some((record) => record.type === question.type))
    return clamp(Math.min(...chain.map((record) => record.ttlSeconds)), resolverLimits.ttlSeconds);
  const soa = answer.authority[0];
  if (!soa) return resolverLimits.negativeTtlSeconds.min;
  const minimum = minimumOf(soa.data);
  return clamp(Math.min(soa.ttlSeconds, minimum ?? soa.ttlSeconds), resolverLimits.negativeTtlSeconds);
}

function minimumOf(data: unknown): number | null {
  const value = typeof data === "object" && data !== null && "minimum" in data ? data.minimum : null;
  return typeof value === "number" ? value : null;
}

function isPublicReverse(labels: readonly string[], rules: Rules): boolean {
  if (labels.at(-2) !== "in-addr" || labels.length !== 6) return false;
  const value = parseAddress(labels.slice(0, 4).toReversed().join("."));
  return value !== null && isReachable(value, cidrsOf(rules));
}

/** How many openings it takes to reach an address that was answered for this name; with `internet` one stands for all. 0: it may not. */
function portsOpen(name: string, address: number, rules: Rules): number {
  if (rules.egress === "none") return 0;
  if (rules.egress === "internet") return isReachable(address, cidrsOf(rules)) ? 1 : 0;
  return portsAt(rules.egress, rules.permits, name, address).length;
}

function cidrsOf(rules: Rules): readonly Cidr[] {
  return rules.permits.map(({ cidr }) => cidr);
}

function address(name: string, data: string, ttlSeconds: number): AnswerRecord {
  return { name, type: "A", ttlSeconds, data };
}

function isOrUnder(name: string, zone: string): boolean {
  return name === zone || name.endsWith(`.${zone}`);
}

function clamp(value: number, bounds: { readonly min: number; readonly max: number }): number {
  return Math.min(bounds.max, Math.max(bounds.min, value));
}
