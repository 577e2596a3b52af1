// The oci driver under the suite, by each engine that this machine has, and what is its own: limits, leftovers, words.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Spawner } from "#spawner/door.ts";
import { ociOn, whyNot, type Ground } from "../fixtures/harness.ts";
import { assignmentOf, get, poolOf, prepare, programs, startAhead } from "../suite.ts";
import { findCgroups } from "./cgroups.ts";
import { engineGround, runEngineSuite, whyNotEngine } from "./engines.testing.ts";
import type { OciDriver } from "./oci.ts";

/** What depends on the engine: how it starts, ends, pauses and counts a sandbox; all of the suite by runc is the soak's. */
const ofTheEngine = [
  "what is assigned at once serves the code with the assignment's environment",
  "what was started ahead without code serves the code that it is assigned later",
  "a sandbox that was never assigned stops and says so",
  "code that exits while it loads is the function's failure with its exit code",
  "an instance that exits by itself is told once, with its code, and its connections end",
  "what ignores SIGTERM is killed when the grace is over",
  "no grace kills at once, and stopping what is gone is nothing",
  "a paused sandbox answers nothing until it is resumed",
  "a paused sandbox can be stopped, and has its grace",
  "a paused sandbox can be killed",
  "output can be read where the driver says",
  "CPU time is counted",
  "runtime custom runs any program that listens on PORT",
  "a program that is run to its end gives its output",
  "a program that takes too long is ended",
];

const shared = engineGround();
runEngineSuite("crun", shared);
runEngineSuite("runc", shared, whyNotEngine("crun") === null ? ofTheEngine : undefined);

describe("the oci driver", { skip: whyNot() ?? false }, () => {
  let ground: Ground;
  let driver: OciDriver;
  /** In the place of the spawner's own. */
  let hand: Partial<Spawner> = {};
  before(async () => {
    ground = await shared.open();
    const spawner = new Proxy(ground.spawner, {
      get: (real, key: keyof Spawner) => hand[key] ?? real[key].bind(real),
    });
    driver = ociOn({ ...ground, spawner });
    await driver.start();
  });
  after(() => driver.stop());

  test("says how much memory a function had and used when it ran out of it", async () => {
    const greedy = `const kept = []; module.exports = () => { for (;;) kept.push(Buffer.alloc(4 << 20, 1)); };`;
    const sandbox = await prepare(driver, poolOf("node26", 128));
    const ready = await driver.assign(sandbox.id, assignmentOf(await ground.code(greedy)));
    assert.ok(ready.ok);
    await assert.rejects(get(driver, sandbox.id));
    const exit = await sandbox.exited;
    assert.deepEqual([exit.reason, exit.message], ["memory", "out of memory: 128 MiB, peak 128; raise memoryMb."]);
  });

  test("says the same when V8's own heap took it", async () => {
    const greedy = `const kept = []; module.exports = () => { for (;;) kept.push(new Array(1e5).fill({}).map(() => ({}))); };`;
    const sandbox = await prepare(driver, poolOf("node26", 128));
    assert.ok((await driver.assign(sandbox.id, assignmentOf(await ground.code(greedy)))).ok);
    await assert.rejects(get(driver, sandbox.id));
    const exit = await sandbox.exited;
    assert.deepEqual([exit.reason, exit.message], ["memory", "out of memory: 128 MiB, peak 128; raise memoryMb."]);
  });

  test("gives every living sandbox ids of its own, and leaves nothing of a sandbox behind", async () => {
    const digest = await ground.code(
      `module.exports = (q, r) => r.end(require("fs").readFileSync("/proc/self/uid_map", "utf8"))`,
    );
    const sandboxes = await Promise.all([1, 2].map(() => prepare(driver, poolOf("node26"))));
    const maps = await Promise.all(
      sandboxes.map(async ({ id }) => {
        assert.ok((await driver.assign(id, assignmentOf(digest))).ok);
        return (await get(driver, id)).body.trim().split(/\s+/)[1];
      }),
    );
    assert.equal(new Set(maps).size, 2);
    await Promise.all(sandboxes.map(({ id }, n) => driver.stopSandbox(id, n === 0 ? 1_000 : 0)));
    const { runDir } = ground.allocator;
    const left = ["sandboxes", "slots", "output", "sockets", "engine", "ledger"].flatMap((name) =>
      readdirSync(join(runDir, name)),
    );
    const mounts = readFileSync("/proc/self/mountinfo", "utf8");
    const cgroups = findCgroups(`ebb-${runDir.slice(runDir.lastIndexOf("/") + 1)}`);
    for (const { id } of sandboxes) {
      assert.deepEqual(
        left.filter((name) => name.includes(id)),
        [],
      );
      assert.ok(!mounts.includes(id));
      assert.deepEqual(
        cgroups.leftovers(id).filter((path) => existsSync(path)),
        [],
      );
    }
  });

  test("ids of a sandbox of which something is left are nobody's until the daemon ends, however it ended", async () => {
    const ids = join(dirname(ground.allocator.runDir), "alloc", "ids");
    const { spawner } = ground;
    const free = join(ground.dataDir, "free");
    const undo = [{ kind: "command" as const, argv: ["/bin/test", "-e", free] }];
    const owners: string[] = [];
    const make = async (what: Parameters<typeof spawner.make>[0]) => {
      if (what.undo.length > 0) owners.push(what.owner);
      await spawner.make({ ...what, undo: what.undo.length > 0 ? [...what.undo, ...undo] : [] });
    };
    const held = () =>
      readdirSync(ids).filter((n) => readFileSync(join(ids, n), "utf8") === basename(ground.allocator.runDir));
    const before = held();
    hand = { make };
    const running = await startAhead(driver, poolOf("node26"));
    await driver.stopSandbox(running.id, 0);
    const early = await prepare(driver, poolOf("node26"));
    await driver.stopSandbox(early.id, 0);
    hand = { make, launch: (spec) => spawner.launch({ ...spec, argv: ["/does/not/exist"] }) };
    assert.equal((await (await prepare(driver, poolOf("node26"))).exited).reason, "lost");
    hand = { make: (what) => make(what).then(() => assert.fail("not made")) };
    await assert.rejects(prepare(driver, poolOf("node26")), /not made/);
    hand = {};
    assert.equal(held().length, before.length + 4);
    await writeFile(free, "");
    for (const owner of owners) await spawner.unmake(owner);
  });

  test("holds a strict CPU limit", async () => {
    const burns = `module.exports = (q, r) => { const from = process.cpuUsage(), end = Date.now() + 1000; while (Date.now() < end);
      const { user, system } = process.cpuUsage(from); r.end(String((user + system) / 1e6)); };`;
    // Started ahead it had more than its revision has.
    const sandbox = await startAhead(driver, poolOf("node26"));
    const over = { cpu: 0.25, cpuStrict: true };
    assert.ok((await driver.assign(sandbox.id, assignmentOf(await ground.code(burns), over))).ok);
    const share = Number((await get(driver, sandbox.id)).body);
    // A quota is given a period at a time: one period of 0.1 s more than its share can fall into the second.
    assert.ok(share > 0.05 && share < 0.4, `used ${share} of a CPU`);
    await driver.stopSandbox(sandbox.id, 0);
  });

  test("what was started ahead and has gone when its code comes is untouched, a program too", async () => {
    const digest = await ground.code(programs.hello);
    for (const runtime of ["node26", "python3"] as const) {
      const sandbox = await startAhead(driver, poolOf(runtime));
      await driver.stopSandbox(sandbox.id, 0);
      const answer = await driver.assign(sandbox.id, assignmentOf(digest, { takeWithinMs: 2_000 }));
      assert.ok(!answer.ok && answer.untouched === true);
    }
    // Not yet told of its end when it is assigned.
    const dying = await startAhead(driver, poolOf("node26"));
    const stopped = driver.stopSandbox(dying.id, 0);
    const answer = await driver.assign(dying.id, assignmentOf(digest, { takeWithinMs: 2_000 }));
    assert.ok(!answer.ok && answer.untouched === true);
    await stopped;
  });

  test("a platform that cannot isolate refuses to start with the way on", async () => {
    const without = ociOn(ground, { engines: [] });
    await assert.rejects(without.start(), /install crun|--isolation none/);
  });
});
