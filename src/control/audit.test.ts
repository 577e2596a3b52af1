// The audit: every command has its row.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { createWorld, type World } from "./world.testing.ts";

let world: World;
beforeEach(async () => {
  world = await createWorld();
});
afterEach(() => world.stop());

test("every command leaves a row that says who did what to what", async () => {
  const { control, admin } = world;
  await control.createProject(admin, "photos");
  await control.setProject(admin, "photos", { instances: 3 });
  await world.deploy({ i: "1" }, { project: "photos", name: "a" });
  await world.deploy({ i: "2" }, { project: "photos", name: "a" });
  await control.rollback(admin, "photos", "a", null);
  await control.restart(admin, "photos", "a");
  await control.setSecret(admin, "photos", "KEY", "v");
  await control.removeSecret(admin, "photos", "KEY");
  const token = { name: "ci", project: "photos", scope: "read", expiresMs: null } as const;
  const { id } = await control.createToken(admin, token);
  await control.removeToken(admin, "photos", id);
  await control.removeWorkload(admin, "photos", "a");
  const jobs = [{ name: "report", source: "./report", command: ["true"] }];
  await world.deploy({ "ebb.yaml": JSON.stringify({ functions: [], jobs }), "report/x": "1" }, { project: "photos" });
  const run = await control.runJob(admin, "photos", "report", {
    env: {},
    args: null,
    memoryMb: null,
    parallelism: null,
  });
  await control.stopRun(admin, "photos", run.id);
  await control.removeProject(admin, "photos", true);
  const rows = world.audits.filter(({ outcome, identity }) => outcome === "ok" && identity === admin.name);
  assert.deepEqual(
    rows.map(({ command, project, target }) => [command, project, target]),
    [
      ["projects create", null, "photos"],
      ["projects set", null, "photos"],
      ["workloads deploy", "photos", "a"],
      ["workloads deploy", "photos", "a"],
      ["workloads rollback", "photos", "a"],
      ["workloads restart", "photos", "a"],
      ["secrets set", "photos", "KEY"],
      ["secrets remove", "photos", "KEY"],
      ["tokens create", "photos", "ci"],
      ["tokens remove", "photos", id],
      ["workloads remove", "photos", "a"],
      ["workloads deploy", "photos", null],
      ["jobs run", "photos", "report"],
      ["jobs stop", "photos", run.id],
      ["projects remove", null, "photos"],
    ],
  );
  // A command that is added later belongs into the list above.
  const ofRoom = Object.keys(control).filter((name) => !["bootstrap", "stop"].includes(name));
  assert.equal(ofRoom.length, new Set(rows.map(({ command }) => command)).size, String(ofRoom));
});
