// ebb as one of those that are compared: the handler of one line, through the gateway, with a pool and without.

import { readVersion } from "#config.ts";
import { poolIsFull } from "../pool-hit.ts";
import type { World } from "../world.ts";
import type { Contender } from "./contender.ts";
import { firstAnswer } from "./first-answer.ts";

const withinMs = 20_000;
const isolates = "a container with users, network and limits of its own";
const exactly =
  "user, pid, mount, ipc, uts, cgroup and network namespaces, an id range for each, no capability, seccomp, a read-only root, limits of memory, CPU, pids and file size, egress by rule";

export function ebbWithPool(world: World): Contender {
  return ebb("ebb", exactly, world, () => poolIsFull(world));
}

export function ebbWithoutPool(world: World): Contender {
  return ebb("ebb without its pool (`--pool 0`)", "as above", world, () => world.empty());
}

function ebb(name: string, isolation: string, world: World, atRest: () => Promise<void>): Contender {
  const { port } = world.daemon;
  return {
    name,
    version: `${readVersion()} (Node ${process.versions.node})`,
    isolates: `${isolates}: ${isolation}`,
    ours: true,
    async coldStart() {
      await atRest();
      const began = performance.now();
      await firstAnswer(port, "cold-web.localhost", withinMs);
      const tookMs = performance.now() - began;
      // What it does afterwards, the pool's new sandbox above all, is not the next one's to bear.
      await atRest();
      return tookMs;
    },
    async serve() {
      const host = "web.localhost";
      await firstAnswer(port, host, withinMs);
      return { port, host, stop: () => Promise.resolve() };
    },
  };
}
