// Step 2: whom the request is for, by its host: exactly one Host, one canonical form, and nobody else's name.

import { EbbError } from "#model/errors.ts";
import { outerOf } from "../forwarded.ts";
import { type Authority, misdirectedWords } from "../host.ts";
import type { Inbound, StepContext } from "../inbound.ts";
import { parseTarget } from "../target.ts";

export function findHost(inbound: Inbound, context: StepContext): EbbError | null {
  const { request, known } = inbound;
  const target = parseTarget(request.target);
  if (target === null)
    return new EbbError("bad_request", "The request target is neither a path nor a URL in printable ASCII.");
  inbound.target = target;
  inbound.path = target.path;
  if (known.host === null) {
    // Load balancers that speak HTTP/1.0 ask for nothing else.
    if (request.versionMinor === 0 && target.path === "/healthz" && target.authority === null) {
      inbound.host = { kind: "platform", at: "base" };
      return null;
    }
    return new EbbError("bad_host", "The request has no Host header.");
  }
  const sent = context.authorities.parse(known.host);
  if (sent === null) return new EbbError("bad_host", "The Host header is not a host.");
  if (target.authority !== null && (target.authority.name !== sent.name || target.authority.port !== sent.port))
    return new EbbError("bad_host", "The Host header and the host in the request target differ.");
  const { forwardedFor, forwardedProto, forwardedHost } = known;
  const forwarded = { for: forwardedFor, proto: forwardedProto, host: forwardedHost };
  inbound.outer = outerOf(forwarded, known.host, inbound.peer, false, inbound.trusted);
  const authority = inbound.outer.host === known.host ? sent : context.authorities.parse(inbound.outer.host);
  if (authority === null) return new EbbError("bad_host", "The X-Forwarded-Host header is not a host.");
  inbound.authority = authority;
  return inbound.internal ? null : routePublic(inbound, authority, context);
}

function routePublic(inbound: Inbound, authority: Authority, { authorities, base }: StepContext): EbbError | null {
  inbound.host = authorities.route(authority);
  return inbound.host.kind === "foreign" ? new EbbError("misdirected", misdirectedWords(authority.name, base)) : null;
}
