// For tests: commands of builds, of which nothing is run.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Room } from "./images.testing.ts";
import type { RunStep } from "./staged-build.ts";

/** As a sandbox does it: each leaves a file of its own name with a number that no other has, and so many bytes; `false` fails. */
export function leavingNumbers(room: Room, ran: string[], bytes = 8): RunStep {
  return async ({ command, keep }) => {
    const said = command.at(-1)!;
    ran.push(said);
    if (said === "false") return { ok: false, reason: "exited", message: "It exited with code 1." };
    const changes = join(room.folder, randomBytes(8).toString("hex"));
    mkdirSync(changes);
    writeFileSync(join(changes, said), randomBytes(bytes).toString("hex"));
    const { argv, stdin, timeoutMs } = keep(changes, 0);
    const { code, stdout, stderr } = await room.spawner.exec(argv, { stdin, timeoutMs });
    assert.equal(code, 0, stderr);
    return { ok: true, kept: stdout };
  };
}
