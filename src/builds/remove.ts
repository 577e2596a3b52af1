// Removes trees, however large, in a process of their own: Node's rm holds its loop for seconds where a tree has 100,000 entries.

import { EbbError } from "#model/errors.ts";
import type { Spawner } from "#spawner/door.ts";

/** What is not gone by then is removed at the next start. */
const removeMs = 10 * 60_000;

/** All of it; links are removed, not followed. What is not there is gone already. */
export type Remove = (path: string) => Promise<void>;

export function createRemove(spawner: Pick<Spawner, "exec">): Remove {
  const run = (...argv: string[]) => spawner.exec(["nice", "-n", "19", ...argv], { timeoutMs: removeMs });
  return async (path) => {
    if ((await run("rm", "-rf", "--", path)).code === 0) return;
    // Read-only folders: root does not need this, others do. Files are left as they are, since other trees link to them.
    await run("find", path, "-type", "d", "-exec", "chmod", "u+rwx", "{}", "+");
    const { code, stderr } = await run("rm", "-rf", "--", path);
    if (code !== 0) throw new EbbError("internal", `${path} cannot be removed: ${stderr.slice(0, 300)}`);
  };
}
