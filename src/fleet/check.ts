// The load check of a deploy: a revision's code in a sandbox of its own, with its own settings; unbilled, and counted by no quota.

import { newErrorId, type SandboxId } from "#model/ids.ts";
import type { Failure } from "#model/instance.ts";
import type { ServingRevision } from "#model/workload.ts";
import type { Ready } from "#sandbox/door.ts";
import type { Fleet } from "./door.ts";
import { launch, tellOfUseless, type LaunchContext } from "./launch.ts";
import type { Member } from "./member.ts";

export type Checked = Awaited<ReturnType<Fleet["check"]>>;

export interface CheckContext extends LaunchContext {
  /** Waits for memory and a turn, and takes both; answers how the turn is given back. */
  readonly admit: (bytes: number) => Promise<() => void>;
  /** `ahead`: a sandbox that was started ahead will do. */
  readonly begin: (ahead: boolean) => { readonly member: Member; readonly preparing: Promise<SandboxId> };
  /** Gives back the memory. */
  readonly over: (member: Member) => void;
}

const MiB = 1024 * 1024;
const tailLines = 100;

export async function check(revision: ServingRevision, context: CheckContext): Promise<Checked> {
  return (await checkIn(revision, context, true)) ?? (await checkIn(revision, context, false))!;
}

/** Null: the sandbox that was started ahead was of no use. */
async function checkIn(revision: ServingRevision, context: CheckContext, ahead: boolean): Promise<Checked | null> {
  const turnOver = await context.admit(revision.settings.memoryMb * MiB);
  const { member, preparing } = context.begin(ahead);
  try {
    const result = await launch(context, member, preparing, true);
    if (result?.ok) {
      await keep(context, revision, result);
      return result;
    }
    if (result?.untouched && member.ahead && member.reason === null) {
      tellOfUseless(context, result.failure);
      return null;
    }
    const failure: Failure = result?.failure ?? {
      fault: "platform",
      message: member.reason ?? "the sandbox went away while the code was loaded",
      stack: null,
      hint: null,
    };
    const lines = await context.telemetry.tail(member.id, tailLines).catch(() => []);
    return { ok: false, failure, output: lines.map((line) => line.message).join("\n") };
  } finally {
    turnOver();
    context.over(member);
  }
}

/** What the check compiled, for the starts to come. Without it they are slower and right all the same: it fails no deploy. */
async function keep(context: CheckContext, revision: ServingRevision, ready: Ready): Promise<void> {
  if (ready.loadCache === undefined || revision.kind !== "function") return;
  try {
    await context.loadCaches.keep(revision, ready.entry ?? revision.settings.entry, ready.loadCache);
  } catch (error) {
    // A tenant's process that sends nonsense is its own affair.
    if (error instanceof RangeError) return;
    context.tell({ kind: "defect", errorId: newErrorId(), where: "fleet.check: keeping compiled code", error });
  }
}
