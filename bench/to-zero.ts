// Back to zero: from the end of the last answer until nothing of the instance is left, against the configured idle time.

import { watch } from "node:fs";
import { basename, dirname } from "node:path";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import { briefIdleSeconds, type World } from "./world.ts";

const rounds = 10;
const withinMs = 100;
const giveUpMs = 20_000;

/** The kernel tells when the sandbox's socket is removed, which goes with the last of it: nothing is polled. */
export async function toZero(world: World): Promise<Row> {
  const late: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    await world.empty();
    await world.call("brief");
    const answered = performance.now();
    const [socket] = world.sockets();
    if (socket === undefined) throw new Error("the instance has no socket");
    await removed(socket);
    if (round > 0) late.push(performance.now() - answered - briefIdleSeconds * 1_000);
  }
  const ascending = late.toSorted((a, b) => a - b);
  const [first, last] = [percentile(ascending, 0), percentile(ascending, 100)];
  return {
    number: `back to zero after ${briefIdleSeconds} s of idle time: nothing of the instance is left`,
    target: `±${inMs(withinMs, 0)}`,
    floor: "–",
    seen: `${inMs(median(ascending), 0)} after it (from ${inMs(first, 0)} to ${inMs(last, 0)}, n=${late.length})`,
    held: first >= -withinMs && last <= withinMs,
  };
}

function removed(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(dirname(path), (_event, file) => {
      if (file === basename(path)) finish(resolve);
    });
    const timer = setTimeout(() => finish(() => reject(new Error(`${path} is still there`))), giveUpMs);
    const finish = (how: () => void): void => {
      clearTimeout(timer);
      watcher.close();
      how();
    };
  });
}
