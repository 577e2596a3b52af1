// Which instances run nothing and are held by no `min`: what may go when memory is needed, the least recently used first.

import { keyOf } from "#model/workload.ts";
import type { Activator } from "#activator/door.ts";
import type { IdleInstance } from "./decide.ts";
import type { Group } from "./member.ts";

export function idleInstances(
  groups: Iterable<Group>,
  user: Pick<Activator, "activeIn" | "load">,
): readonly IdleInstance[] {
  const idle: IdleInstance[] = [];
  for (const group of groups) {
    const ready = [...group.members].filter((member) => member.stage === "ready");
    // Of one workload's a call prefers those that are not.
    ready.sort((a, b) => Number(b.paused) - Number(a.paused));
    let spare = ready.length - group.revision.settings.min;
    if (spare <= 0) continue;
    const used = user.load(group.revision).lastActiveMs;
    for (const { id, memoryBytes, revision, startedMs } of ready) {
      if (spare <= 0) break;
      if (user.activeIn(id) > 0) continue;
      spare--;
      idle.push({ id, memoryBytes, project: revision.project, workload: keyOf(revision), lastUsed: used ?? startedMs });
    }
  }
  return idle.toSorted((a, b) => a.lastUsed - b.lastUsed);
}
