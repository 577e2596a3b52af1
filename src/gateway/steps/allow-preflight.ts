// Step 5: a browser's preflight of a private workload, which never carries a token, is ebb's to answer: nothing of the
// workload is touched, and whether it exists is not told. A public one answers its own.

import type { Inbound, StepContext } from "../inbound.ts";

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const oneName = new RegExp(`^${token}$`);
const someNames = new RegExp(`^${token}(?:[ \\t]*,[ \\t]*${token})*$`);

export function allowPreflight(inbound: Inbound, { mirror }: StepContext): null {
  const { request, destination, known } = inbound;
  if (request.method !== "OPTIONS" || destination?.kind !== "workload" || inbound.internal) return null;
  // Browsers leave out both: what has one is a call.
  if (known.ebbToken !== null || known.authorization !== null) return null;
  const { origin, "access-control-request-method": method, "access-control-request-headers": names } = request.headers;
  if (origin === undefined || method === undefined || !oneName.test(method)) return null;
  if (names !== undefined && !someNames.test(names)) return null;
  if (mirror.workload(destination.project, destination.workload)?.revision.settings.public) return null;
  inbound.destination = { kind: "preflight", method, headers: names ?? null };
  return null;
}
