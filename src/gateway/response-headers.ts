// What becomes of a workload's response headers on their way out. Pure.

import type { ReplyHead } from "#activator/door.ts";

export interface ResponseRules {
  readonly invocation: string;
  /** Host of workload names: no workload may set a cookie for it. */
  readonly base: string;
  /** Under /run/P/N, on a host that several workloads share with the platform. */
  readonly shared: boolean;
  readonly workloadUrl: string;
}

/**
 * What speaks for the whole host, and so is nobody's to say who shares it: a workload could forget everybody's data there, bind
 * it to HTTPS, move it to another port, or have reports of everybody's requests sent to itself.
 */
const ofTheWholeHost: ReadonlySet<string> = new Set([
  "set-cookie",
  "service-worker-allowed",
  "clear-site-data",
  "strict-transport-security",
  "public-key-pins",
  "alt-svc",
  "nel",
  "report-to",
  "reporting-endpoints",
  "accept-ch",
  "critical-ch",
  "origin-agent-cluster",
  "origin-trial",
]);
const sandboxed = "sandbox allow-scripts allow-forms allow-popups";

/** Names and values in turn; what frames the body comes with it. */
export function responseHeaders(head: ReplyHead, rules: ResponseRules): string[] {
  const { headers } = head;
  const out: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (rules.shared && ofTheWholeHost.has(name)) continue;
    const value = headers[i + 1]!;
    out.push(name, name === "set-cookie" ? withoutBaseDomain(value, rules.base) : value);
  }
  if (rules.shared) {
    out.push("content-security-policy", sandboxed);
    out.push("ebb-note", `cookies are removed and pages are sandboxed under /run/; use ${rules.workloadUrl}`);
  }
  out.push("ebb-invocation-id", rules.invocation, "server-timing", serverTiming(head));
  return out;
}

function serverTiming({ queueMs, startMs, execMs }: ReplyHead): string {
  return `queue;dur=${ms(queueMs)}, start;dur=${ms(startMs)}, exec;dur=${ms(execMs)}`;
}

/** "", ".001" to ".999", without zeros at the end. */
const fractions = Array.from({ length: 1_000 }, (_, us) => String(us / 1_000).slice(1));

/**
 * Three decimals at most. Put together of what is there: V8 would work out the shortest digits of each float, and keep them for the next
 * time that the same one comes, which is never: a third of what outlived a request.
 */
function ms(value: number): string {
  const us = Math.round(value * 1_000);
  const whole = Math.floor(us / 1_000);
  return `${whole}${fractions[us - whole * 1_000]}`;
}

/**
 * A cookie for BASE, or for what BASE is under, would reach every other workload: it stays with this one. So does one whose
 * domain is not plainly a name: browsers undo percent-encoding and fold full-width letters before they compare.
 */
export function withoutBaseDomain(cookie: string, base: string): string {
  if (!/;\s*domain\s*=/i.test(cookie)) return cookie;
  const [pair, ...attributes] = cookie.split(";");
  const kept = attributes.filter((attribute) => {
    const domain = /^\s*domain\s*=(.*)$/i.exec(attribute)?.[1];
    // An empty one counts as none (RFC 6265, 5.2.3).
    if (domain === undefined || domain.trim() === "") return true;
    const name = /^\s*\.?([a-z0-9-]+(?:\.[a-z0-9-]+)*)\.?\s*$/i.exec(domain)?.[1]?.toLowerCase();
    return name !== undefined && name !== base && !base.endsWith(`.${name}`);
  });
  return [pair, ...kept].join(";");
}
