// Step 9: what the function is told about the outer side: host, scheme, client and prefix.

import { plainAddress } from "../forwarded.ts";
import type { Inbound } from "../inbound.ts";

export function addForwarded(inbound: Inbound): null {
  const { destination, known, outer, headers, prefix } = inbound;
  if (destination?.kind !== "workload") return null;
  if (known.host !== null) headers.push("host", known.host);
  headers.push("x-forwarded-for", plainAddress(outer.forwardedFor));
  headers.push("x-forwarded-proto", outer.scheme);
  headers.push("x-forwarded-host", outer.host);
  const before = inbound.trusted ? (known.forwardedPrefix ?? "") : "";
  if (before + prefix !== "") headers.push("x-forwarded-prefix", before + prefix);
  if (inbound.upgrade && known.upgrade !== null) headers.push("upgrade", known.upgrade);
  return null;
}
