// What a driver gives for a connection to a sandbox that is gone.

import { PassThrough, type Duplex } from "node:stream";
import { EbbError } from "#model/errors.ts";
import type { SandboxId } from "#model/ids.ts";

/**
 * An error that comes by the connection, as it would if the sandbox went a moment later: whoever connects learns of the sandbox's end
 * in that very turn, and an exception there would be ebb's own end.
 */
export function lostConnection(id: SandboxId): Duplex {
  return new PassThrough().destroy(lostSandbox(id));
}

/** Everything else that is asked of one. Throws EbbError platform_lost_instance. */
export function noSandbox(id: SandboxId): never {
  throw lostSandbox(id);
}

function lostSandbox(id: SandboxId): EbbError {
  return new EbbError("platform_lost_instance", `The sandbox ${id} does not exist any more.`);
}
