// A thousand queued runs, and kills in the middle of them: every one ends exactly once, and nothing is left.

import assert from "node:assert/strict";
import { test } from "node:test";
import { jobOf } from "./job.testing.ts";
import { exits, World } from "./world.testing.ts";

test("a thousand runs of three projects end, each once, in the order of their project", async () => {
  const w = new World({ script: () => exits(0, 20), memoryMb: 4_096 });
  await w.start();
  const projects = ["a", "b", "c"];
  const ids: Array<{ readonly project: string; readonly id: string }> = [];
  for (let n = 0; n < 999; n++) {
    const project = projects[n % 3]!;
    ids.push({ project, id: await w.run(jobOf("true", { memoryMb: 128 }, project)) });
  }
  for (let seconds = 0; seconds < 600 && (await w.store.openRuns()).length > 0; seconds += 10)
    await w.clock.advance(10_000);
  for (const { id, project } of ids) assert.equal((await w.look(id, project)).state, "succeeded");
  assert.equal(w.marks.length, 999);
  for (const project of projects) {
    const begun = w.assigned.filter(({ project: its }) => its === project).map(({ env }) => env["EBB_RUN"]);
    assert.deepEqual(begun, ids.filter((one) => one.project === project).map(({ id }) => id)); // prettier-ignore
  }
  assert.deepEqual([w.driver.living, w.fleet.state().memoryBytes, w.clock.pending()], [0, 0, 0]);
  await w.end();
});

test("with an ebb that dies every second, a thousand runs end, and none succeeds twice", async () => {
  const done = new Map<string, number>();
  const w = new World({ script: () => exits(0, 30), memoryMb: 2_048 });
  await w.start();
  const ids: string[] = [];
  for (let n = 0; n < 1_000; n++) ids.push(await w.run(jobOf("true", { memoryMb: 128 })));
  for (let deaths = 0; deaths < 200 && (await w.store.openRuns()).length > 0; deaths++) {
    await w.clock.advance(1_000);
    // Dead: what it would still do, nobody hears.
    const dead = w.jobs;
    w.store.updateRuns = async () => Promise.reject(new Error("restarting: it is dead"));
    await w.rise();
    void dead.stop();
  }
  await w.clock.advance(60_000);
  for (const id of ids) {
    const run = await w.look(id);
    assert.equal(run.state, "succeeded");
    done.set(id, run.tasks[0]!.failures);
  }
  assert.ok([...done.values()].every((failures) => failures === 0));
  await w.end();
});
