// Links themselves: made by the batch, opened, shut, and taken away again.

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { EbbError } from "#model/errors.ts";
import type { EgressClass } from "#model/workload.ts";
import type { Link } from "./door.ts";
import { messageOf, type Effects } from "./machine.ts";
import { openText, shutText } from "./rules.ts";
import { linkChanges } from "./setup.ts";
import { Addresses, type Layout } from "./subnet.ts";

export interface OwnLink extends Link {
  readonly egress: EgressClass;
  readonly index: number;
  /** Name of its device in the router. */
  readonly device: string;
  /** Of its connections, in the host's connection tracker: a new one for every link. */
  readonly mark: number;
}

export interface LinksOptions {
  readonly spawner: Effects;
  readonly directory: string;
  readonly table: string;
  readonly layout: Layout;
  /** How many of the layout's addresses are used. */
  readonly addresses: number;
  /** What takes away all that was opened to a link, in lines of nft. */
  readonly closing: (address: string) => readonly string[];
  readonly failed: (error: unknown) => void;
  /** Those of an earlier daemon that live on, and the names of all that it had. */
  readonly left?: { readonly links: readonly OwnLink[]; readonly pins: readonly string[] };
}

interface Removal {
  readonly link: OwnLink;
  readonly closing: readonly string[];
}

export class Links {
  readonly #options: LinksOptions;
  readonly #addresses: Addresses;
  readonly #byId = new Map<string, OwnLink>();
  readonly #byAddress = new Map<string, OwnLink>();
  readonly #toRemove: Removal[] = [];
  #removing: Promise<void> | null = null;
  #serial = 0;
  /** By chance: what an earlier daemon left in the connection tracker must not fit either. */
  readonly #firstMark = randomInt(1, 2 ** 31);

  constructor(options: LinksOptions) {
    this.#options = options;
    const { links = [], pins = [] } = options.left ?? {};
    this.#addresses = new Addresses(
      options.addresses,
      links.map(({ index }) => index),
    );
    for (const link of links) {
      this.#byId.set(link.id, link);
      this.#byAddress.set(link.address, link);
    }
    this.#serial = Math.max(0, ...pins.map((pin) => Number.parseInt(pin, 36)));
  }

  /** What an earlier daemon has left besides. */
  async removeStale(): Promise<void> {
    const { spawner, directory, left } = this.#options;
    const stale = (left?.pins ?? []).filter((pin) => !this.#byId.has(pin));
    if (stale.length > 0) await spawner.unpin(stale.map((pin) => join(directory, pin)));
  }

  /** Whose it is has it still: it was not given back, and perhaps to another since. */
  isOf({ id, uses }: Link): boolean {
    const link = this.#byId.get(id);
    return link !== undefined && link.uses === uses;
  }

  /** It is to be another's, who has it as it was made: null where something was open to it beyond its class, and it is taken away. */
  again(id: string): OwnLink | null {
    const link = this.#byId.get(id)!;
    const closing = this.#options.closing(link.address);
    if (closing.length > 0) {
      this.#cutOff(link, closing);
      return null;
    }
    // Whoever had it may say once more that it is given back.
    const again = { ...link, uses: (link.uses ?? 0) + 1 };
    this.#byId.set(id, again);
    this.#byAddress.set(link.address, again);
    return again;
  }

  /** Undefined: it was given back. */
  get(id: string): OwnLink | undefined {
    return this.#byId.get(id);
  }

  /** Null: no link has this address. */
  egressOf(address: string): EgressClass | null {
    return this.#byAddress.get(address)?.egress ?? null;
  }

  /** False: it was given back; its address may be another one's. */
  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** As many of `count` as there are addresses for; EbbError capacity when there is none. The rule stands when it resolves. */
  async make(egress: EgressClass, count: number): Promise<readonly OwnLink[]> {
    const links: OwnLink[] = [];
    for (let i = 0; i < count; i++) {
      const index = this.#addresses.take();
      if (index !== null) links.push(this.#newLink(egress, index));
    }
    if (links.length === 0) throw new EbbError("capacity", "All addresses for sandboxes are taken.");
    const { spawner, directory, table } = this.#options;
    const router = join(directory, "router");
    const changes = linkChanges(links.map((link) => ({ ...link, namespace: link.namespacePath, router })));
    for (const link of links) {
      this.#byId.set(link.id, link);
      this.#byAddress.set(link.address, link);
    }
    try {
      await spawner.network(changes).catch((cause: unknown) => {
        throw new EbbError("internal", `Links for sandboxes cannot be made: ${messageOf(cause)}`, { cause });
      });
      await spawner.nft(openText(table, links));
      return links;
    } catch (error) {
      this.remove(links.map((link) => link.id));
      throw error;
    }
  }

  #newLink(egress: EgressClass, index: number): OwnLink {
    const serial = ++this.#serial;
    const id = serial.toString(36);
    const { directory, layout } = this.#options;
    return {
      id,
      egress,
      index,
      device: `e${id}`,
      mark: (this.#firstMark + serial) >>> 0 || 1,
      namespacePath: join(directory, id),
      address: layout.host(index),
      gateway: layout.gateway,
    };
  }

  /** Known by id, so that giving back twice is harmless. Cut off at once, taken away behind. */
  remove(ids: readonly string[]): void {
    for (const id of ids) {
      const link = this.#byId.get(id);
      if (link) this.#cutOff(link, this.#options.closing(link.address));
    }
  }

  #cutOff(link: OwnLink, closing: readonly string[]): void {
    this.#byId.delete(link.id);
    this.#byAddress.delete(link.address);
    this.#toRemove.push({ link, closing });
    this.#removing ??= this.#removeAll().finally(() => (this.#removing = null));
  }

  /** Resolves when nothing is being removed any more. */
  async stop(): Promise<void> {
    await this.#removing;
  }

  /** What comes while one batch is being removed makes the next. */
  async #removeAll(): Promise<void> {
    await Promise.resolve(); // those given back in the same turn go together
    while (this.#toRemove.length > 0) {
      const removals = this.#toRemove.splice(0, 64);
      const { spawner, failed } = this.#options;
      try {
        const open = await this.#shut(removals);
        const links = removals.flatMap((one) => (open.has(one) ? [] : [one.link]));
        await spawner.unpin(links.map((link) => link.namespacePath));
        // an address whose link may still be there is not given to another one
        for (const link of links) this.#addresses.giveBack(link.index);
        if (open.size === 0) continue;
        this.#toRemove.push(...open.keys());
        failed(new AggregateError(open.values(), "what is open to links cannot be closed"));
        return;
      } catch (error) {
        // tried again with the next that is removed; the namespaces end with the network in any case
        this.#toRemove.push(...removals);
        failed(error);
        return;
      }
    }
  }

  /** Shuts links and closes what is open to them; answers of which something may be open still, and why. */
  async #shut(removals: readonly Removal[]): Promise<ReadonlyMap<Removal, unknown>> {
    const { spawner, table } = this.#options;
    const shut = shutText(
      table,
      removals.map(({ link }) => link),
    );
    const open = new Map<Removal, unknown>();
    try {
      await spawner.nft([shut, ...removals.flatMap(({ closing }) => closing)].join("\n"));
      return open;
    } catch {
      await spawner.nft(shut);
    }
    // What one link has that cannot be closed is not the others' trouble.
    for (const removal of removals.filter(({ closing }) => closing.length > 0)) {
      // A line that another one's element was in the way of succeeds when that is gone.
      for (const line of removal.closing) await spawner.nft(line).catch(() => undefined);
      await spawner.nft(removal.closing.join("\n")).catch((error: unknown) => void open.set(removal, error));
    }
    return open;
  }
}
