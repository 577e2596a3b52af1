// Step 5: a browser's preflight of a private workload, which never carries a token, is ebb's to answer: nothing of the
// workload is touched, and whether it exists is not told. A public one answers its own.

import { servingOf } from "#model/workload.ts";
import type { Inbound, StepContext } from "../inbound.ts";

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const oneName = new RegExp(`^${token}$`);
const someNames = new RegExp(`^${token}(?:[ \\t]*,[ \\t]*${token})*$`);

export function allowPreflight(inbound: Inbound, { mirror }: StepContext): null {
  const { request, destination, known } = inbound;
  if (request.method !== "OPTIONS" || destination?.kind !== "workload" || inbound.internal) return null;
  // Browsers leave out both: what has one is a call.
  if (known.ebbToken !== null || known.authorization !== null) return null;
  const method = headerOf(inbound, "access-control-request-method");
  const names = headerOf(inbound, "access-control-request-headers");
  if (headerOf(inbound, "origin") === null || method === null || !oneName.test(method)) return null;
  if (names !== null && !someNames.test(names)) return null;
  const revision = mirror.workload(destination.project, destination.workload)?.revision;
  if (revision && servingOf(revision)?.settings.public) return null;
  inbound.destination = { kind: "preflight", method, headers: names };
  return null;
}

function headerOf({ headers }: Inbound, name: string): string | null {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1]!;
  return null;
}
