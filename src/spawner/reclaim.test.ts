// What a dead daemon left, where not all of it can be undone.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Undo } from "./door.ts";
import { ownerOf } from "./owners.ts";
import { reclaimDead } from "./reclaim.ts";
import { createSyscalls } from "./syscalls.ts";

test("what cannot be undone keeps its ledger, and the next start tries it again", async (t) => {
  const boot = mkdtempSync(join(tmpdir(), "ebb-reclaim-"));
  t.after(() => rmSync(boot, { recursive: true, force: true }));
  const [own, dead] = [join(boot, "aaaaaaaaaaaa"), join(boot, "bbbbbbbbbbbb")];
  for (const folder of [own, join(dead, "ledger"), join(boot, "alloc")]) mkdirSync(folder, { recursive: true });
  const owes = (undo: readonly Undo[]): void =>
    writeFileSync(join(dead, "ledger", "s1.json"), JSON.stringify({ id: "s1", undo }));
  // Nobody can remove what /proc shows.
  owes([{ kind: "remove", path: "/proc/self/status" }]);
  const problems = await reclaimDead(own, createSyscalls());
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /^s1: remove: /);
  assert.ok(existsSync(join(dead, "ledger", "s1.json")));

  owes([{ kind: "remove", path: join(boot, "nothing") }]);
  assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
  assert.ok(!existsSync(dead));
});

test("a run directory whose maker died in making it goes at the next start; one that is being made stays", async (t) => {
  const boot = mkdtempSync(join(tmpdir(), "ebb-reclaim-"));
  t.after(() => rmSync(boot, { recursive: true, force: true }));
  const own = join(boot, "aaaaaaaaaaaa");
  const { pid, startTicks } = ownerOf(process.pid)!;
  const [dead, living] = [`.bbbbbbbbbbbb ${pid} ${Number(startTicks) + 1}`, `.cccccccccccc ${pid} ${startTicks}`];
  for (const folder of [own, join(boot, dead, "ledger"), join(boot, living, "ledger"), join(boot, "alloc")])
    mkdirSync(folder, { recursive: true });
  assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
  assert.deepEqual(readdirSync(boot).toSorted(), [living, "aaaaaaaaaaaa", "alloc"]);
});
