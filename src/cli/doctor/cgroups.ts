// Pure: what the machine's cgroups mean for ebb and for its engines, from the text of the files that tell.

import type { Finding } from "./check.ts";

export interface CgroupFiles {
  /** /sys/fs/cgroup/cgroup.controllers; null: not a pure version 2. */
  readonly pure: string | null;
  /** /sys/fs/cgroup/unified/cgroup.controllers; null: not a hybrid either. */
  readonly hybrid: string | null;
  /** /proc/self/mountinfo. */
  readonly mounts: string;
}

const needed = ["cpu", "memory", "pids"];

export function cgroupFinding({ pure, hybrid, mounts }: CgroupFiles): Finding {
  const what = "cgroups";
  if (pure !== null) {
    const missing = needed.filter((one) => !pure.split(/\s+/).includes(one));
    return missing.length === 0
      ? { what, verdict: "there", found: "v2", remedy: null }
      : {
          what,
          verdict: "missing",
          found: `v2 without ${missing.join(", ")}`,
          remedy: `boot the kernel with cgroup_enable=${missing.join(" cgroup_enable=")}`,
        };
  }
  const mounted = new Set<string>();
  for (const line of mounts.split("\n"))
    if (line.includes(" - cgroup ")) for (const option of line.split(" ").at(-1)!.split(",")) mounted.add(option);
  const missing = needed.filter((one) => !mounted.has(one));
  if (missing.length > 0)
    return {
      what,
      verdict: "missing",
      found: mounted.size === 0 ? "none is mounted" : `v1 without ${missing.join(", ")}`,
      remedy: "boot the kernel with systemd.unified_cgroup_hierarchy=1 (or mount the controllers)",
    };
  return { what, verdict: "there", found: hybrid === null ? "v1" : "v1 (hybrid)", remedy: null };
}

/**
 * crun refuses a hybrid machine while a controller is left with its v2 mount. That one controller mounted as v1 satisfies it; ebb
 * does not do that unasked. Null: crun has nothing against this machine.
 */
export function crunRefusal({ pure, hybrid }: CgroupFiles): string | null {
  if (pure !== null || hybrid === null || hybrid.trim() === "") return null;
  const left = hybrid.trim().split(/\s+/);
  const commands = left.map(
    (one) => `sudo mkdir -p /sys/fs/cgroup/${one} && sudo mount -t cgroup -o ${one} cgroup /sys/fs/cgroup/${one}`,
  );
  return `crun refuses hybrid cgroups while the v2 mount has a controller (${left.join(", ")}): ${commands.join(" && ")}`;
}

/** One engine that works is enough; crun is preferred. */
export function engineFindings(crun: Finding, runc: Finding, files: CgroupFiles): readonly [Finding, Finding] {
  const refusal = crun.verdict === "there" ? crunRefusal(files) : null;
  const runcServes = runc.verdict === "there";
  if (refusal !== null)
    return runcServes
      ? [{ ...crun, verdict: "note", remedy: `${refusal}; until then runc serves` }, runc]
      : [{ ...crun, verdict: "broken", remedy: refusal }, runc];
  if (crun.verdict === "there") return [crun, runcServes ? runc : { ...runc, verdict: "note", remedy: "crun serves" }];
  if (runcServes)
    return [{ ...crun, verdict: "note", remedy: `runc serves; crun starts faster: ${crun.remedy ?? ""}` }, runc];
  return [crun, runc];
}
