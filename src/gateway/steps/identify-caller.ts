// Step 3: on the internal listener, which instance calls: by its address on the link, or by its credential where it has no link.

import { EbbError } from "#model/errors.ts";
import { internalBase, routeInternalHost, underInternalBase } from "../host.ts";
import type { Inbound, StepContext } from "../inbound.ts";
import { plainAddress } from "../forwarded.ts";
import { splitCredential } from "../target.ts";

export function identifyCaller(inbound: Inbound, context: StepContext): EbbError | null {
  if (!inbound.internal) return null;
  const inPath = underInternalBase(inbound.authority) ? null : splitCredential(inbound.path);
  if (inPath !== null) inbound.path = inPath.path;
  const credential = inPath?.credential ?? inbound.known.ebbCredential;
  inbound.caller =
    credential === null ? context.identifyLink(plainAddress(inbound.peer)) : context.access.byCredential(credential);
  if (inbound.caller === null) {
    if (credential === null && inbound.path === "/healthz") {
      inbound.host = { kind: "platform", at: "base" };
      return null;
    }
    return new EbbError("unauthenticated", "Only a living instance is served here; this caller is none.");
  }
  const { project } = inbound.caller;
  if (inbound.authority === null || project === null)
    return new EbbError("bad_host", "The request has no Host header.");
  inbound.host = routeInternalHost(inbound.authority, project);
  if (inbound.host.kind !== "foreign") return null;
  const { name } = inbound.authority;
  return new EbbError("misdirected", `no workload at "${name}"; inside, ebb serves http://NAME.${internalBase}/`);
}
