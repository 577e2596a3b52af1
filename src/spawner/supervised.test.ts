// The supervisor from outside: what is kept outlives daemon and spawner, is found by the next daemon, and leaves nothing when it ends.

import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { KeptReader } from "#lib/kept-output.ts";
import { systemClock as clock } from "#model/clock.ts";
import { createAllocator } from "./allocator.ts";
import { findKeptCgroups } from "./kept-cgroups.ts";
import { isAlive, readOwner, type Owner } from "./owners.ts";
import { createSpawner } from "./spawner.ts";
import { createSupervisor, type SupervisorClient } from "./supervised.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;
let root: string;
let directory: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), "ebb-run-"));
  directory = join(root, "data", "kept");
});
after(() => rmSync(root, { recursive: true, force: true }));

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !holds(); await sleep(5))
    assert.ok(Date.now() < deadline, `never: ${what}`);
}

function ownerIn(runDir: string, name: string): Owner {
  const owner = readOwner(join(runDir, name));
  assert.ok(owner);
  return owner;
}

/** Kept processes of this run directory, by what they are. */
function kept(runDir: string): string[] {
  const mark = `EBB_LAUNCH=${basename(runDir)}.kept/`;
  const found = readdirSync("/proc").flatMap((pid) => {
    try {
      const environ = `\0${readFileSync(`/proc/${pid}/environ`, "latin1")}`;
      return /^[0-9]+$/.test(pid) ? environ.split("\0").filter((one) => one.startsWith(mark)) : [];
    } catch {
      return [];
    }
  });
  return [...new Set(found.map((one) => one.slice(mark.length)))].toSorted();
}

async function startDaemon(...names: string[]): Promise<{ daemon: ChildProcess; runDir: string }> {
  const daemon = fork(fileURLToPath(new URL("fixtures/keeper.ts", import.meta.url)), [root, directory, ...names], {
    execArgv: ["--experimental-ffi", "--disable-warning=ExperimentalWarning"],
  });
  const died = once(daemon, "exit").then(([code]) => assert.fail(`it ended before it was there (${code})`));
  const [runDir] = (await Promise.race([once(daemon, "message"), died])) as [unknown];
  died.catch(() => {});
  return { daemon, runDir: String(runDir) };
}

function end(name: string): void {
  writeFileSync(join(root, "data", `${name}.end`), "");
}

function client(): SupervisorClient {
  return createSupervisor({ node: process.execPath, directory, root, clock, problem: (words) => assert.fail(words) });
}

function said(name: string): string {
  let text = "";
  const reader = new KeptReader({
    folder: join(directory, name),
    data: (_, bytes) => void (text += bytes.toString()),
    lost: () => undefined,
  });
  while (reader.read());
  reader.close();
  return text;
}

describe("the supervisor", { skip }, () => {
  test("what is kept outlives daemon and spawner, and the next daemon has it whole, whenever it ended", async () => {
    const { daemon, runDir } = await startDaemon("lasting", "brief", "untold", "third", "flood");
    const spawner = ownerIn(runDir, "spawner");
    const supervisor = ownerIn(runDir, "supervisor");
    process.kill(spawner.pid, "SIGKILL");
    daemon.kill("SIGKILL");
    await until("both are dead", () => !isAlive(spawner) && daemon.signalCode !== null);
    for (const name of ["brief", "flood"]) end(name);
    const ended = (name: string): boolean => existsSync(join(directory, name, "end.json"));
    await until("one has ended by itself, one before it began, one wrote too much", () =>
      ["brief", "untold", "flood"].every((name) => ended(`kept-${name}`)),
    );
    assert.deepEqual(kept(runDir), ["lasting", "third"]);

    const next = client();
    assert.equal(await next.find(), runDir);
    const left = next.left.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const summary = left.map(({ name, note, end: how, begunMs }) => [name, note, how?.how.code, begunMs !== null]);
    assert.deepEqual(summary, [
      ["kept-brief", { of: "brief" }, 3, true],
      ["kept-flood", { of: "flood" }, null, true],
      ["kept-lasting", { of: "lasting" }, undefined, true],
      ["kept-third", { of: "third" }, undefined, true],
      ["kept-untold", { of: "untold" }, null, false],
    ]);
    assert.equal(said("kept-brief"), "begins\nends\n");
    assert.equal(readFileSync(join(directory, "kept-brief", "result"), "utf8"), "left\n");
    assert.equal(left[0]?.end?.resultBytes, 5);
    const flood = left[1]?.end;
    assert.deepEqual([flood?.how.signal, flood?.resultBytes, flood?.resultTooLarge], ["SIGKILL", null, true]);

    const allocator = createAllocator({ root, inherited: { runDir, numbers: {} } });
    const own = createSpawner({ node: process.execPath, runDir, inherits: true, gaveUp: assert.fail });
    await own.start();
    next.begin({ runDir, spawner: own });
    assert.deepEqual(kept(runDir), ["lasting", "third"]);
    end("lasting");
    assert.equal((await next.exited("lasting")).code, 3);
    assert.equal(next.endOf("kept-lasting")?.resultBytes, 5);
    assert.equal(said("kept-lasting"), "begins\nends\n");

    // By hand: what it kept ends with it, and whoever waits is told that nobody knows how.
    process.kill(supervisor.pid, "SIGKILL");
    assert.equal((await next.exited("third")).lost, true);
    assert.deepEqual(kept(runDir), []);
    assert.equal(next.holds, false);
    for (const { name } of left) await next.forget(name);
    await until("what was kept has gone", () => readdirSync(directory).every((name) => name.startsWith(".")));
    await next.close();
    assert.equal(readOwner(join(runDir, "supervisor")), null);
    await own.stop();
    assert.ok(!existsSync(allocator.runDir));
    assert.deepEqual(findKeptCgroups(runDir).filter(existsSync), []);
  });

  test("without any daemon the run directory goes with the last that is kept", async () => {
    const { daemon, runDir } = await startDaemon("alone");
    const supervisor = ownerIn(runDir, "supervisor");
    daemon.kill("SIGKILL");
    await until("its spawner has gone", () => !isAlive(ownerIn(runDir, "spawner")));
    // Another daemon's start takes nothing of it for an orphan.
    const other = createAllocator({ root });
    const spawner = createSpawner({ node: process.execPath, runDir: other.runDir, gaveUp: assert.fail });
    await spawner.start();
    assert.deepEqual(kept(runDir), ["alone"]);
    end("alone");
    await until("it has gone", () => !isAlive(supervisor));
    assert.ok(!existsSync(runDir));
    assert.deepEqual(findKeptCgroups(runDir).filter(existsSync), []);
    await spawner.stop();
    const next = client();
    assert.equal(await next.find(), null);
    assert.equal(next.left[0]?.end?.how.code, 3);
    await next.close();
  });

  test("a supervisor killed while no daemon is there: the next start ends what it kept", async () => {
    const { daemon, runDir } = await startDaemon("lost");
    daemon.kill("SIGKILL");
    await until("its spawner has gone", () => !isAlive(ownerIn(runDir, "spawner")));
    process.kill(ownerIn(runDir, "supervisor").pid, "SIGKILL");
    const next = client();
    assert.equal(await next.find(), null);
    assert.deepEqual(
      next.left.map(({ name }) => name).filter((name) => name === "kept-lost"),
      [],
    );
    const other = createAllocator({ root });
    const spawner = createSpawner({ node: process.execPath, runDir: other.runDir, gaveUp: assert.fail });
    await spawner.start();
    assert.deepEqual(kept(runDir), []);
    assert.ok(!existsSync(runDir));
    await spawner.stop();
    await next.close();
  });
});
