// The request target, parsed once: the same object routes, authorises and goes to the function. Pure.

import { type Authority, parseAuthority } from "./host.ts";

export interface Target {
  /** Raw, begins with a slash. */
  readonly path: string;
  /** With its question mark; "" where there is none. */
  readonly query: string;
  /** Of an absolute form (RFC 9112, 3.2.2): must be the Host's. */
  readonly authority: Authority | null;
}

// RFC 3986's path and query characters, and what browsers send raw beside them; never #, backslash, blanks or beyond ASCII.
const pathShape = /^\/[!$-;=@-[\]^_a-z|{}~`"<>]*$/;
const queryShape = /^\?[!$-[\]^_a-z|{}~`"<>?]*$/;

/** Null: not a target that any method but OPTIONS (`*`) and CONNECT has. */
export function parseTarget(text: string): Target | null {
  let rest = text;
  let authority: Authority | null = null;
  if (rest[0] !== "/") {
    const match = /^https?:\/\/([^/?#]*)(.*)$/i.exec(rest);
    authority = match ? parseAuthority(match[1]!) : null;
    if (!match || authority === null) return null;
    rest = match[2]!.startsWith("/") ? match[2]! : `/${match[2]!}`;
  }
  const mark = rest.indexOf("?");
  const path = mark < 0 ? rest : rest.slice(0, mark);
  const query = mark < 0 ? "" : rest.slice(mark);
  if (!pathShape.test(path) || (query !== "" && !queryShape.test(query))) return null;
  return { path, query, authority };
}

/** What the platform's own paths are for. */
export type PlatformRoute =
  | {
      readonly kind: "workload";
      readonly project: string;
      readonly workload: string;
      readonly prefix: string;
      readonly path: string;
    }
  | { readonly kind: "api" }
  | { readonly kind: "health" }
  | { readonly kind: "page" }
  /** Where the console is, whatever host was asked: `path` is the console's own. */
  | { readonly kind: "console"; readonly path: string }
  | { readonly kind: "none" }
  /** A path that somebody could read in two ways. */
  | { readonly kind: "ambiguous" };

const runPath = /^\/run\/([a-z][-a-z0-9]*)\/([a-z][-a-z0-9]*)(\/.*)?$/;
// Encoded slash, backslash, dot and NUL; dot segments; empty segments; broken percent-encoding.
const ambiguous = /%(?:2f|5c|2e|00)|(?:^|\/)\.{1,2}(?:\/|$)|\/\/|%(?![0-9a-f]{2})/i;

/** Names in `/run/P/N` are compared as written: they have no character that would need an encoding. What follows is the function's. */
export function routePath(path: string): PlatformRoute {
  const run = runPath.exec(path);
  if (run) {
    const [, project, workload, rest] = run;
    return {
      kind: "workload",
      project: project!,
      workload: workload!,
      prefix: `/run/${project}/${workload}`,
      path: rest ?? "/",
    };
  }
  if (ambiguous.test(path)) return { kind: "ambiguous" };
  if (path === "/healthz") return { kind: "health" };
  if (path === "/") return { kind: "page" };
  if (path === "/console" || path.startsWith("/console/"))
    return { kind: "console", path: path.slice("/console".length) || "/" };
  if (path === "/metrics" || path === "/api" || path.startsWith("/api/")) return { kind: "api" };
  return { kind: "none" };
}

/** `/_/CREDENTIAL/…` of callers without a link: the credential, and the path without it. */
export function splitCredential(path: string): { readonly credential: string; readonly path: string } | null {
  const match = /^\/_\/([A-Za-z0-9._~-]{1,200})(\/.*)?$/.exec(path);
  return match ? { credential: match[1]!, path: match[2] ?? "/" } : null;
}
