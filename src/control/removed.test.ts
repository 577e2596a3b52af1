// A project that is removed is gone at once, whatever the disk says to what was kept of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createWorld } from "./world.testing.ts";

test("the workloads of a removed project are told of before its compiled code goes, also where that cannot", async (context) => {
  const effectsBefore: string[][] = [];
  const world = await createWorld({
    forget: async () => {
      effectsBefore.push([...world.effects]);
      throw new Error("the disk says no");
    },
  });
  context.after(() => world.stop());
  await world.control.createProject(world.admin, "photos");
  await world.deploy({ i: "1" }, { project: "photos", name: "a" });
  await world.control.removeProject(world.admin, "photos", true);
  assert.equal(effectsBefore[0]?.at(-1), "changed a gone");
  // Another project of the same name has no right to what this one pulled.
  assert.equal(world.effects.at(-1), "images of photos forgotten");
  assert.ok(world.facts.some((fact) => fact.kind === "defect" && /compiled code/.test(fact.where)));
  assert.equal(world.audits.at(-1)?.outcome, "ok");
});
