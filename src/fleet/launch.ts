// One start, from nothing to ready: sandbox, output, credential, secrets, code. Says whose fault it is when it fails; never throws.

import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { newErrorId, randomHex, type SandboxId } from "#model/ids.ts";
import { deployLimits, poolLimits, sandboxLimits } from "#model/limits.ts";
import type { Tell } from "#model/fact.ts";
import type { Failure } from "#model/instance.ts";
import type { Access } from "#access/door.ts";
import type { LoadCaches } from "#builds/door.ts";
import type { Failed, Ready, SandboxDriver } from "#sandbox/door.ts";
import type { Telemetry } from "#telemetry/door.ts";
import { assignmentOf, environmentOf, hasShim, type SecretSource } from "./assignment.ts";
import { failureOfExit, type Member } from "./member.ts";

export interface LaunchContext {
  readonly driver: SandboxDriver;
  readonly access: Pick<Access, "mintCredential" | "revokeCredential">;
  readonly secrets: SecretSource;
  readonly telemetry: Pick<Telemetry, "attach" | "detach" | "settled" | "tail">;
  readonly loadCaches: Pick<LoadCaches, "of" | "keep">;
  readonly clock: Clock;
  readonly tell: Tell;
  /** Where the instance reaches ebb.internal: the same for all on a link, its own (with the credential) without one. */
  readonly internalUrl: (credential: string) => string;
}

/** How long the driver has for its answer to `assign` after it has told the end of the sandbox. */
const answerAfterEndMs = 1_000;

/** null: it was stopped before it was ready; nobody waits for it. */
export async function launch(
  context: LaunchContext,
  member: Member,
  preparing: Promise<SandboxId>,
  check: boolean,
): Promise<Ready | Failed | null> {
  const limitMs = check ? deployLimits.loadSeconds * 1000 : sandboxLimits.startMs;
  const late = Promise.withResolvers<Failed>();
  const cancel = context.clock.after(limitMs, () => late.resolve(tooLate(member, limitMs)));
  let over = false;
  let giveUp: Cancel = () => undefined;
  // A driver tells the end and answers `assign` in either order; its answer has the better words.
  const end = async (): Promise<Failed | null> => {
    await member.left.promise;
    if (over) return null;
    await new Promise<void>((resolve) => {
      giveUp = context.clock.after(answerAfterEndMs, resolve);
    });
    return endedFirst(member);
  };
  try {
    return await Promise.race([steps(context, member, preparing, check), late.promise, end()]);
  } catch (error) {
    return failureOf(context, error);
  } finally {
    over = true;
    giveUp();
    cancel();
  }
}

async function steps(
  context: LaunchContext,
  member: Member,
  preparing: Promise<SandboxId>,
  check: boolean,
): Promise<Ready | Failed | null> {
  const { driver, access, telemetry, loadCaches } = context;
  const { revision, id } = member;
  const sandbox = await preparing;
  member.sandbox = sandbox;
  if (member.stage !== "preparing") {
    // It has ended before anything was given to it.
    const ended = endedFirst(member);
    return ended === null ? null : { ...ended, untouched: true };
  }
  member.stage = "assigning";

  const nonce = randomHex(16);
  const source = driver.output(sandbox);
  const credential = access.mintCredential(id, revision.project);
  const env = environmentOf(revision, context.secrets, context.internalUrl(credential));
  const takeWithinMs = member.ahead ? poolLimits.takeWithinMs : null;
  const loadCache = loadCaches.of(revision);
  const assignment = assignmentOf(revision, { instance: id, env, credential, nonce, check, loadCache, takeWithinMs });
  const assigned = driver.assign(sandbox, assignment);
  // The start goes first: until somebody reads it, what is printed waits in its pipe.
  telemetry.attach({
    instance: id,
    project: revision.project,
    workload: revision.workload,
    source,
    nonce: hasShim(revision) ? nonce : null,
    concurrency: revision.settings.concurrency,
  });
  const result = await assigned;
  // Whoever stopped it while it was assigned has its reasons already.
  return member.reason === null ? result : null;
}

/** A sandbox that was started ahead was dead or deaf: the operator's to know, and nobody's failure. */
export function tellOfUseless({ tell }: Pick<LaunchContext, "tell">, failure: Failure): void {
  const error = new Error(`a sandbox that was started ahead: ${failure.message}`);
  tell({ kind: "defect", errorId: newErrorId(), where: "fleet.pool", error });
}

/** null where somebody stopped it. */
function endedFirst(member: Member): Failed | null {
  if (member.reason !== null) return null;
  return { ok: false, failure: failureOfExit(member.exit) };
}

function tooLate(member: Member, limitMs: number): Failed {
  const seconds = Math.round(limitMs / 1000);
  const assigning = member.stage === "assigning";
  return {
    ok: false,
    failure: {
      fault: assigning ? "function" : "platform",
      message: assigning
        ? `the function was not ready after ${seconds} s.`
        : `no sandbox could be made in ${seconds} s.`,
      stack: null,
      hint: assigning ? "Do less at load: what takes long belongs into the handler." : null,
    },
  };
}

export function failureOf(context: LaunchContext, error: unknown): Failed {
  if (error instanceof EbbError)
    return {
      ok: false,
      failure: {
        fault: error.kind.fault === "function" ? "function" : "platform",
        message: error.message,
        stack: null,
        hint: error.kind.remedy,
        code: error.code,
      },
    };
  const errorId = newErrorId();
  context.tell({ kind: "defect", errorId, where: "fleet.start", error });
  return {
    ok: false,
    failure: { fault: "platform", message: `the start failed inside ebb (${errorId})`, stack: null, hint: null },
  };
}
