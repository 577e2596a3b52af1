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

const sandboxed = "sandbox allow-scripts allow-forms allow-popups";

/** Names and values in turn, complete but for what the framing adds. */
export function responseHeaders(head: ReplyHead, rules: ResponseRules): string[] {
  const { headers } = head;
  const out: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (name === "set-cookie") {
      if (!rules.shared) out.push(name, withoutBaseDomain(headers[i + 1]!, rules.base));
    } else if (name !== "service-worker-allowed" || !rules.shared) {
      out.push(name, headers[i + 1]!);
    }
  }
  if (head.lengthBytes !== null && head.status !== 204) out.push("content-length", String(head.lengthBytes));
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

/** Three decimals at most, without a float's tail. */
function ms(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}

/** A cookie for BASE, or for what BASE is under, would reach every other workload: it stays with this one. */
export function withoutBaseDomain(cookie: string, base: string): string {
  if (!/;\s*domain\s*=/i.test(cookie)) return cookie;
  const [pair, ...attributes] = cookie.split(";");
  const kept = attributes.filter((attribute) => {
    const domain = /^\s*domain\s*=\s*"?\.?([^"]*?)\.?"?\s*$/i.exec(attribute)?.[1]?.toLowerCase();
    return domain === undefined || (domain !== base && !base.endsWith(`.${domain}`));
  });
  return [pair, ...kept].join(";");
}
