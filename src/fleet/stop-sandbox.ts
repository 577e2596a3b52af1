// Ends a member's sandbox, several times where the driver fails: what is not ended would run on.

import { newErrorId } from "#model/ids.ts";
import type { LaunchContext } from "./launch.ts";
import type { Member } from "./member.ts";

const stopAttempts = 5;

export async function stopSandbox(
  { driver, clock, tell }: Pick<LaunchContext, "driver" | "clock" | "tell">,
  member: Member,
  graceMs: number,
): Promise<void> {
  const sandbox = member.sandbox ?? (await member.preparing?.catch(() => null)) ?? null;
  for (let attempt = 1; attempt <= stopAttempts; attempt++) {
    if (sandbox === null) return;
    try {
      await driver.stopSandbox(sandbox, graceMs);
      return;
    } catch (error) {
      tell({ kind: "defect", errorId: newErrorId(), where: "fleet.stop", error });
      await new Promise<void>((resolve) => void clock.after(100 * 2 ** attempt, resolve));
    }
  }
}
