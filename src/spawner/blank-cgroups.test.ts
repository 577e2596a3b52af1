// Cgroups that stay for the next of their name: not for longer than somebody may come, and never away from under one who has.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, test } from "node:test";
import { BlankCgroups } from "./blank-cgroups.ts";
import type { Undo } from "./door.ts";

test("blank folders outlive their sandbox, but for those in use, and go a second after the last", (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const folder = mkdtempSync(join(tmpdir(), "ebb-blank-"));
  t.after(() => {
    mock.timers.reset();
    rmSync(folder, { recursive: true });
  });
  const of = (name: string): Undo => {
    const [limited, blank] = [join(folder, "memory", name), join(folder, "devices", name)];
    for (const path of [limited, blank]) mkdirSync(path, { recursive: true });
    return { kind: "cgroup", paths: [limited, blank], blank: [blank] };
  };
  const blanks = new BlankCgroups();
  const [first, second] = [of("run-0"), of("run-1")];
  assert.deepEqual(blanks.leave(first), { kind: "cgroup", paths: [join(folder, "memory", "run-0")] });
  blanks.leave(second);
  blanks.removeSoon(() => [{ id: "again", undo: [second] }]);
  blanks.removeSoon(() => assert.fail("it was to be done already"));
  mock.timers.tick(999);
  assert.ok(existsSync(join(folder, "devices", "run-0")));
  mock.timers.tick(1);
  assert.ok(!existsSync(join(folder, "devices", "run-0")));
  assert.ok(existsSync(join(folder, "devices", "run-1")));
  // One that an engine has left something in is passed over.
  mkdirSync(join(folder, "devices", "run-1", "c"));
  blanks.remove([]);
  assert.ok(existsSync(join(folder, "devices", "run-1", "c")));
  const other: Undo = { kind: "unmount", path: "/x" };
  assert.equal(blanks.leave(other), other);
});
