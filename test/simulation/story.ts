// A long day of a platform, made up by a seed: deploys, removals, bursts, trickles, aborts, kills, a lost spawner; and zero in the end.

import type { Exit } from "#sandbox/door.ts";
import { keyOf, type ServingRevision } from "#model/workload.ts";
import { manyFaults, noFaults, revisionOf, World } from "./world.ts";

export interface Story {
  readonly seed: number;
  readonly functions: number;
  readonly events: number;
  readonly memoryMb: number;
  readonly poolMb?: number;
}

const lost: Exit = { reason: "lost", code: null, message: "the spawner was replaced" };
const crash: Exit = { reason: "exited", code: 7, message: "exited with 7" };
const memory: Exit = { reason: "memory", code: null, message: "out of memory: 256 MiB, peak 256; raise memoryMb." };

/** Tells the story and checks every limit on the way; throws with the seed in its words. */
export async function tell(
  story: Story,
): Promise<{ readonly requests: number; readonly ends: Record<string, number> }> {
  const world = new World({
    seed: story.seed,
    faults: story.seed % 3 === 0 ? noFaults : manyFaults,
    memoryMb: story.memoryMb,
    poolMb: story.poolMb ?? 0,
    pauseAfterMs: 500,
    quotas: { small: { memoryMb: 1024, instances: 3, ratePerSecond: null } },
  });
  try {
    await live(world, story);
    await rest(world);
  } catch (error) {
    throw new Error(`seed ${story.seed} (${story.functions} functions, ${story.events} events): ${String(error)}`, {
      cause: error,
    });
  }
  const ends: Record<string, number> = {};
  for (const { end } of world.crowd.requests) ends[end ?? "none"] = (ends[end ?? "none"] ?? 0) + 1;
  return { requests: world.crowd.requests.length, ends };
}

async function live(world: World, story: Story): Promise<void> {
  const { chance } = world;
  const pick = <T>(of: readonly T[]): T => of[Math.floor(chance() * of.length)]!;
  const make = (index: number, number: number): ServingRevision =>
    revisionOf(
      `f${index}`,
      {
        memoryMb: pick([64, 128, 256, 512]),
        concurrency: pick([1, 1, 1, 4, 80]),
        min: chance() < 0.01 ? 1 : 0,
        max: pick([1, 3, 20]),
        idleSeconds: pick([0, 1, 10, 60]),
        timeoutSeconds: pick([1, 5, 30]),
      },
      number,
      index % 10 === 0 ? "small" : "default",
    );
  const revisions = Array.from({ length: story.functions }, (_, index) => make(index, 1));
  for (const revision of revisions) world.deploy(revision);

  const send = (revision: ServingRevision): void => {
    const usualMs = [1, 20, 200, 3_000][Number(revision.workload.slice(1)) % 4]!;
    const executionMs = chance() < 0.01 ? 60_000 : usualMs * (0.5 + chance());
    world.crowd.send(revision, executionMs, chance() < 0.03 ? 2_000 * chance() : null);
  };
  for (let event = 0; event < story.events; event++) {
    const index = Math.floor(chance() ** 3 * revisions.length);
    const revision = revisions[index]!;
    const what = chance();
    if (what < 0.02) {
      revisions[index] = make(index, revision.number + 1);
      world.deploy(revisions[index]);
    } else if (what < 0.03) {
      world.remove(revision);
      revisions[index] = make(index, revision.number + 1);
    } else if (what < 0.05) {
      for (const sandbox of pickSome(world)) world.driver.exit(sandbox, chance() < 0.5 ? crash : memory);
    } else if (what < 0.051) {
      for (const sandbox of world.driver.sandboxes.values()) world.driver.exit(sandbox, lost);
    } else if (what < 0.08) {
      const burst = Math.floor(1 + 120 * chance());
      for (let i = 0; i < burst; i++) send(revision);
    } else if (what < 0.09) {
      world.fleet.check(revision).catch(() => undefined);
    } else {
      if (!world.current.has(keyOf(revision))) world.deploy(revision);
      send(revision);
    }
    if (chance() < 0.5) await world.run(chance() < 0.01 ? 90_000 * chance() : 60 * chance());
  }
}

function* pickSome(world: World): Iterable<Parameters<World["driver"]["exit"]>[0]> {
  for (const sandbox of world.driver.sandboxes.values()) if (world.chance() < 0.2) yield sandbox;
}

/** Every request ends, then every idle time passes; what `min` holds is removed; nothing is left. */
async function rest(world: World): Promise<void> {
  await world.run(400_000);
  for (const revision of world.current.values()) if (revision.settings.min > 0) world.remove(revision);
  await world.run(400_000);
  // The pool gets smaller as it is asked less: at this very moment one of it may be on its way out.
  for (let more = 0; more < 10 && world.driver.stopping > 0; more++) await world.run(1_000);
  world.checkZero();
  for (const revision of world.current.values())
    if (world.crowd.load(revision).waiting > 0) throw new Error(`${keyOf(revision)} still waits`);
}
