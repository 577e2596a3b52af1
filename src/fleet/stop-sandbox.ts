// Ends a sandbox, several times where the driver fails: what is not ended would run on.

import type { Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, type SandboxId } from "#model/ids.ts";
import type { SandboxDriver } from "#sandbox/door.ts";
import type { Member } from "./member.ts";

const stopAttempts = 5;

export interface StopContext {
  readonly driver: Pick<SandboxDriver, "stopSandbox">;
  readonly clock: Clock;
  readonly tell: Tell;
}

/** Never rejects: what fails is told, as of `where`. */
export async function stopSandbox(
  { driver, clock, tell }: StopContext,
  sandbox: SandboxId,
  graceMs: number,
  where: string,
): Promise<void> {
  for (let attempt = 1; attempt <= stopAttempts; attempt++) {
    try {
      await driver.stopSandbox(sandbox, graceMs);
      return;
    } catch (error) {
      tell({ kind: "defect", errorId: newErrorId(), where, error });
      await new Promise<void>((resolve) => void clock.after(100 * 2 ** attempt, resolve));
    }
  }
}

/** That of a member, also where it is still being prepared. */
export async function stopMember(context: StopContext, member: Member, graceMs: number): Promise<void> {
  const sandbox = member.sandbox ?? (await member.preparing?.catch(() => null)) ?? null;
  if (sandbox !== null) await stopSandbox(context, sandbox, graceMs, "fleet.stop");
}
