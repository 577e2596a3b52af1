// Who shares a listener's connections: how many there are, and what counts as one client. Pure.

import { isIP } from "node:net";
import type { SharesBounds } from "#lib/shares.ts";
import { httpLimits } from "#model/limits.ts";
import { plainAddress } from "./forwarded.ts";

/** As many as the process may have files open for, so that what clients hold never keeps ebb from its instances and files. */
export function connectionBounds(listener: "public" | "internal", openFilesMax: number): SharesBounds {
  const inAll = Math.min(httpLimits.connections, Math.floor(openFilesMax * httpLimits.openFilesShare[listener]));
  return { inAll, each: Math.ceil(inAll * httpLimits.connectionsEachShare) };
}

/** What one client has of addresses: with IPv6 the /64 that a line is given at the least, in which it may choose any. */
export function clientNetwork(address: string): string {
  const plain = plainAddress(address);
  if (isIP(plain) !== 6) return plain;
  const [head = "", tail] = plain.split("::");
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  if (tail !== undefined) groups.push(...Array.from({ length: 8 - groups.length - rest.length }, () => "0"), ...rest);
  return `${groups.slice(0, 4).join(":")}::/64`;
}
