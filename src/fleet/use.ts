// What the instances of a revision use, for the decision of how many there are: of those that are awake, the oldest.

import type { SandboxDriver } from "#sandbox/door.ts";
import type { InstanceUse } from "./door.ts";
import type { Group } from "./member.ts";

export function usesOf(
  group: Group | null,
  driver: Pick<SandboxDriver, "usage">,
  count: number,
): { readonly awake: number; readonly of: readonly InstanceUse[] } {
  let awake = 0;
  const of: InstanceUse[] = [];
  for (const { id, stage, paused, sandbox } of group?.members ?? []) {
    if (stage !== "ready" || paused || sandbox === null) continue;
    awake++;
    if (of.length === count) continue;
    const usage = driver.usage(sandbox);
    of.push({ instance: id, cpuNs: usage.cpuNs, memoryBytes: usage.memoryBytes ?? null });
  }
  return { awake, of };
}
