// Which host a request is for: one canonical form, then the platform, a workload, or nobody. Pure.

import { isIPv4, isIPv6 } from "node:net";
import { defaultProject } from "#model/names.ts";

/** A Host header or the authority of a URL, made canonical. */
export interface Authority {
  /** Lower case, without a trailing dot; an IPv6 literal without its brackets. */
  readonly name: string;
  readonly ip: boolean;
  /** As sent; null: the scheme's own. */
  readonly port: number | null;
}

const nameShape =
  /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** Null: not a host (RFC 3986, 3.2.2, without user information and percent-encoding). */
export function parseAuthority(text: string): Authority | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]@/?#\\]+))(?::(\d{0,5}))?$/.exec(text);
  if (!match) return null;
  const port = match[3] ? Number(match[3]) : null;
  if (port !== null && port > 65_535) return null;
  if (match[1] !== undefined) {
    const name = match[1].toLowerCase();
    return isIPv6(name) ? { name, ip: true, port } : null;
  }
  const name = match[2]!.toLowerCase().replace(/\.$/, "");
  if (isIPv4(name)) return { name, ip: true, port };
  return nameShape.test(name) ? { name, ip: false, port } : null;
}

/** The same few hosts come again and again: kept, with where they lead, until there are suspiciously many. */
export class AuthorityCache {
  readonly #base: string;
  readonly #known = new Map<string, Authority | null>();
  readonly #routes = new WeakMap<Authority, HostRoute>();
  #lastText = "";
  #last: Authority | null = null;

  /** `base` is canonical. */
  constructor(base: string) {
    this.#base = base;
  }

  /** On the public listener. */
  route(authority: Authority): HostRoute {
    let route = this.#routes.get(authority);
    if (route === undefined) {
      route = routeHost(authority, this.#base);
      this.#routes.set(authority, route);
    }
    return route;
  }

  parse(text: string): Authority | null {
    // Compared before it is looked up: most often the one who asked last asks again.
    if (text === this.#lastText) return this.#last;
    const parsed = this.#parse(text);
    this.#lastText = text;
    this.#last = parsed;
    return parsed;
  }

  #parse(text: string): Authority | null {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const parsed = parseAuthority(text);
    if (this.#known.size >= cachedAuthorities) this.#known.clear();
    // A malformed one is not kept: its only use would be to push out others.
    if (parsed !== null) this.#known.set(text, parsed);
    return parsed;
  }
}

const cachedAuthorities = 4_096;

/** Who answers at a host. `foreign`: nobody here. */
export type HostRoute =
  | { readonly kind: "platform"; readonly at: "base" | "api" | "console" | "ip" }
  | { readonly kind: "workload"; readonly project: string; readonly workload: string }
  | { readonly kind: "foreign" };

/** Below BASE: the one host on which a cookie will authenticate. */
export const consoleLabel = "console";

const foreign: HostRoute = { kind: "foreign" };

/** On the public listener; `base` is canonical. */
export function routeHost(authority: Authority, base: string): HostRoute {
  const { name, ip } = authority;
  if (ip) return { kind: "platform", at: "ip" };
  if (name === base) return { kind: "platform", at: "base" };
  if (!name.endsWith(`.${base}`)) return foreign;
  const label = name.slice(0, -base.length - 1);
  if (label === "api" || label === consoleLabel) return { kind: "platform", at: label };
  if (label.includes(".")) return foreign;
  return workloadOfLabel(label);
}

/** `NAME` is of the default project, `NAME--PROJECT` of another. Neither can hold "--" itself. */
function workloadOfLabel(label: string): HostRoute {
  const parts = label.split("--");
  if (parts.length > 2 || parts.includes("")) return foreign;
  const [workload, project] = parts;
  return { kind: "workload", project: project ?? defaultProject, workload: workload! };
}

/** The name under which ebb is reached from inside. */
export const internalBase = "ebb.internal";

/** A workload's name: its paths are its own. */
export function underInternalBase(authority: Authority | null): boolean {
  return authority?.name.endsWith(`.${internalBase}`) === true;
}

/** On the internal listener: the caller's own project. An address is for callers that have no resolver of ours. */
export function routeInternalHost(authority: Authority, project: string): HostRoute {
  const { name, ip } = authority;
  if (ip || name === internalBase || name === "localhost") return { kind: "platform", at: ip ? "ip" : "base" };
  if (!underInternalBase(authority)) return foreign;
  const label = name.slice(0, -internalBase.length - 1);
  return label.includes(".") || label.includes("--") ? foreign : { kind: "workload", project, workload: label };
}

/** The sentence of a 421. */
export function misdirectedWords(name: string, base: string): string {
  return `no workload at "${name}"; ebb serves *.${base}. Start with --url https://${name.split(".").slice(1).join(".") || name} to serve another host.`;
}
