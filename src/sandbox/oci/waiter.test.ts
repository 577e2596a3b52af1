// What waits in sandboxes of images, as it stands on the disk.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { test } from "node:test";
import { makeWaiter } from "./waiter.ts";

const skip = process.platform === "linux" ? false : "not Linux";
const exec = promisify(execFile);

test(
  "it is there once: that of earlier shells and libraries goes, and what a crash left half made",
  { skip },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "ebb-waiter-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const others = ["code", "waiter-at-the-door"];
    for (const name of ["waiter-0123456789abcdef01234567", ".waiter-0123456789abcdef", ...others]) {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, "sh"), "");
    }
    const make = () => makeWaiter(folder, async ([program, ...args]) => ({ code: 0, ...(await exec(program!, args)) }));
    const made = await make();
    assert.deepEqual(readdirSync(folder).toSorted(), [...others, basename(made.folder)].toSorted());
    assert.ok(readdirSync(made.folder).includes("sh"));
    assert.deepEqual(await make(), made);
  },
);
