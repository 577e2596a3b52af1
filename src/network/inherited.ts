// Links of an earlier daemon whose sandboxes live on: what is open to them stays open while the rules around them are written anew.

import { parseAddress } from "#model/address.ts";
import type { Effects } from "./machine.ts";
import type { Answered } from "./openings.ts";
import type { OwnLink } from "./links.ts";
import { elements, openText } from "./rules.ts";

/** What is open to some links, as nft wrote it, to be added again. */
export interface StillOpen {
  readonly granted: readonly string[];
  readonly granted_all: readonly string[];
  readonly answered: readonly string[];
}

const openSets = ["granted", "granted_all", "answered"] as const;

export async function readStillOpen(
  effects: Pick<Effects, "exec">,
  table: string,
  addresses: readonly string[],
): Promise<StillOpen> {
  const lists = openSets.map(async (set) => {
    const { code, stdout } = await effects.exec(["nft", "list", "set", "inet", table, set]);
    return code === 0 ? elementsOf(stdout, addresses) : [];
  });
  const [granted, granted_all, answered] = await Promise.all(lists);
  return { granted: granted!, granted_all: granted_all!, answered: answered! };
}

/** Elements of these addresses, in the words of `nft list set`, which nft also takes. */
export function elementsOf(text: string, addresses: readonly string[]): readonly string[] {
  const all = /elements = \{([^}]*)\}/.exec(text)?.[1] ?? "";
  return all
    .split(",")
    .map((element) => element.trim().replaceAll(/\s+/g, " "))
    .filter((element) => addresses.some((address) => element.startsWith(`${address} . `)));
}

/** The table in the place of the one that stands, in one transaction: what was let through is let through without a gap. */
export function replacedTable(name: string, table: string, links: readonly OwnLink[], open: StillOpen): string {
  const adds = openSets.flatMap((set) => (open[set].length > 0 ? [elements("add", name, set, open[set])] : []));
  return [`add table inet ${name}`, `delete table inet ${name}`, table, openText(name, links), ...adds, ""].join("\n");
}

/** null: not an answered address of these words. */
export function readAnswered(element: string): { readonly link: string; readonly answered: Answered } | null {
  const [link, address, protocol, port] = (element.split(" timeout ")[0] ?? "").split(" . ");
  const number = Number(port);
  if (link === undefined || address === undefined || parseAddress(address) === null) return null;
  if ((protocol !== "tcp" && protocol !== "udp") || !Number.isInteger(number)) return null;
  return { link, answered: { address, port: { protocol, number } } };
}
