// When a crowd may come: nothing runs, and the pool has what it wants.

import { setTimeout as sleep } from "node:timers/promises";
import { eventually, type Daemon } from "../test/daemon/fixture.ts";

/** The pool makes one each tenth of a second. */
const quietMs = 1_000;
/** A pool of a gigabyte is full after some ten seconds; a machine that does something else as well takes longer. */
const withinMs = 120_000;

export async function settled(daemon: Daemon): Promise<void> {
  const headers = { authorization: `Bearer ${daemon.token}` };
  let before = -1;
  const look = async (): Promise<boolean> => {
    const { text } = await daemon.fetch(null, "/api/v1/status", { headers });
    const { instances, pool }: Status = JSON.parse(text);
    const same = instances.running + instances.starting === 0 && pool.sandboxes === before;
    before = pool.sandboxes;
    await sleep(quietMs);
    return same;
  };
  await eventually("nothing runs, and the pool grows no more", look, withinMs);
}

interface Status {
  readonly pool: { readonly sandboxes: number };
  readonly instances: { readonly running: number; readonly starting: number };
}
