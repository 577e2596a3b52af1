// What the machine may do to ebb, end to end: a full disk, a taken port, broken and foreign data, closed folders, a neighbour.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test, type TestContext } from "node:test";
import { installation } from "#config.ts";
import { load as fill } from "../../bench/load.ts";
import { balance, BookReader } from "./books.ts";
import {
  eventually,
  folderOf,
  removeDirectory,
  runCommand,
  startDaemon,
  temporaryDirectory,
  type CommandResult,
  type Daemon,
} from "./fixture.ts";
import { startLoad } from "./load.ts";
import { livesOf, nothingLeftOf } from "./traces.ts";

const MiB = 1024 * 1024;
const code = folderOf({
  "ebb.yaml": "functions:\n  steady: { source: ./src, public: true, memoryMb: 64, max: 1, concurrency: 10 }\n",
  "src/index.mjs": "let calls = 0; export default () => new Response(String(++calls));",
});

/**
 * What `used` copies: made once, since an ebb that starts, deploys and ends is most of what a test here costs. Below folders that only
 * root may enter, with blanks and what is not ASCII; and the installation too.
 */
const closed = join(temporaryDirectory(), "closed");
const odd = join(closed, "ein Ordner, größer: \\ 'x'");
const template = join(odd, "data");

after(() => [code, dirname(closed)].forEach(removeDirectory));

before(async () => {
  const inside = join(closed, "ebb");
  mkdirSync(closed, { mode: 0o700 });
  mkdirSync(odd, { mode: 0o700 });
  mkdirSync(inside);
  execFileSync("mount", ["--bind", installation, inside]);
  try {
    // What is compiled for this path alone is not kept.
    const env = { NODE_COMPILE_CACHE: "", XDG_CACHE_HOME: "", HOME: "" };
    await firstUsed(template, { launcher: join(inside, "ebb"), env });
  } finally {
    execFileSync("umount", [inside]);
  }
});

/** A temporary directory that is gone after the test, also when something is mounted in it. */
function place(t: TestContext): string {
  const directory = temporaryDirectory();
  const mounts: string[] = [];
  t.after(() => {
    for (const point of mounts.toReversed()) execFileSync("umount", [point]);
    removeDirectory(directory);
  });
  places.set(directory, mounts);
  return directory;
}
const places = new Map<string, string[]>();

function mount(inside: string, args: readonly string[], target: string): void {
  execFileSync("mount", [...args, target]);
  places.get(inside)?.push(target);
}

/** `ebb up` that must refuse: exit 1 and one line, which it returns. */
async function refusal(data: string, args: readonly string[] = ["--listen", "127.0.0.1:0"]): Promise<string> {
  const result: CommandResult = await runCommand(["up", "--data", data, ...args], { timeoutMs: 30_000 });
  assert.equal(result.code, 1, `${result.stdout}${result.stderr}`);
  assert.equal(result.stdout, "");
  assert.equal(result.stderr.trim().split("\n").length, 1, result.stderr);
  return result.stderr.trim();
}

/** A data directory with something deployed and called, of a daemon that has ended. */
function used(directory: string): string {
  mkdirSync(directory, { recursive: true });
  const there = (name: string): string => join(template, name);
  const small = readdirSync(template).filter((name) => name !== "roots");
  execFileSync("cp", ["-a", ...small.map(there), directory]);
  // Most of it all, and never written again.
  if (!existsSync(join(directory, "roots"))) execFileSync("cp", ["-al", there("roots"), directory]);
  return directory;
}

/** The same, by an ebb that ran there. */
async function firstUsed(directory: string, options: Parameters<typeof startDaemon>[0] = {}): Promise<string> {
  const daemon = await startDaemon({ ...options, directory });
  try {
    const deployed = await daemon.ebb(["deploy", code]);
    assert.equal(deployed.code, 0, deployed.stderr);
    assert.equal((await daemon.fetch("steady.localhost", "/")).text, "1");
  } finally {
    await daemon.stop();
  }
  return directory;
}

/** Up to the last byte that is not zero. */
function usedBytes(file: string): number {
  return readFileSync(file).findLastIndex((byte) => byte !== 0) + 1;
}

describe("a full disk", () => {
  test("refuses to start in one sentence; one that fills refuses before the hand-over and refuses deploys in a clear sentence, and all goes on by itself when there is room", async (t) => {
    const disk = place(t);
    mount(disk, ["-t", "tmpfs", "-o", "size=40m", "tmpfs"], disk);
    const directory = join(disk, "data");
    mkdirSync(join(directory, "roots"), { recursive: true });
    mount(disk, ["--bind", join(template, "roots")], join(directory, "roots"));
    used(directory);
    const free = (): number => statfsSync(disk).bavail * statfsSync(disk).bsize;
    const ballast = join(disk, "ballast");
    writeFileSync(ballast, Buffer.alloc(free()));
    assert.match(await refusal(directory), /full|no space/i);
    rmSync(ballast);
    // The empty rest of the segments that are there would be room for one made ahead, once they are loaded and gone.
    const journal = join(directory, "journal");
    for (const name of readdirSync(journal)) truncateSync(join(journal, name), usedBytes(join(journal, name)));
    const books = new BookReader(directory);
    // Room for one small segment of the journal, and not for the one that is made ahead.
    writeFileSync(ballast, Buffer.alloc(free() - 4 * MiB));
    const daemon = await startDaemon({ directory });
    const lives = livesOf(daemon.process.pid ?? 0);
    const rests: string[] = [];
    const fillUp = (): void => {
      rests.push(join(disk, `rest-${rests.length}`));
      try {
        writeFileSync(rests.at(-1)!, Buffer.alloc(free() + MiB));
        assert.fail("the disk was not small");
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
    };
    fillUp();
    try {
      // Three thousand calls, most of them by a client that costs little; the other hears what it is told.
      const load = startLoad({ port: daemon.port, workloads: ["steady"], reuse: true, pauseMs: 10 });
      t.after(() => load.stop());
      const full = (): boolean => load.complete().some((one) => one.status === 503);
      let filled = 0;
      for (const untilMs = performance.now() + 60_000; !full() && performance.now() < untilMs;) {
        const slice = { connections: 8, durationMs: 250, host: "steady.localhost" };
        const { latenciesMs, failures } = await fill({ port: daemon.port }, slice);
        filled += latenciesMs.length - failures;
      }
      await load.stop();
      const refused = load.complete().find((one) => one.status === 503);
      assert.match(refused?.text ?? "the journal is not full", /"code":"storage_full"/);
      assert.match(refused!.text, /no space left/);
      for (const one of load.seen)
        assert.ok(one.status === 200 || one.status === 503, `${one.status} ${one.text} ${one.error}`);
      const calls = load.complete().filter((one) => one.status === 200);

      // What is loaded of the journal meanwhile is room again.
      const words = await eventually("a deploy is refused for want of room", async () => {
        fillUp();
        // Where there was room for what is sent, its name is refused.
        const deploy = await daemon.ebb(["deploy", code, "--name", "another"]);
        assert.equal(deploy.code, 1, deploy.stdout);
        return /no room|no space|full/i.test(deploy.stderr) && deploy.stderr;
      });
      assert.equal(words.trim().split("\n").length, 1, words);

      for (const path of [ballast, ...rests]) rmSync(path);
      const served = await eventually("it serves again", async () => {
        const { status, text } = await daemon.fetch("steady.localhost", "/");
        return status === 200 && Number(text);
      });
      // One instance counts its calls: what was refused never reached it.
      assert.equal(served, filled + calls.length + 1);
      const again = await daemon.ebb(["deploy", code]);
      assert.equal(again.code, 0, again.stderr);
      assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200);
      await daemon.client.usage("default");
      const entries = books.read();
      balance(calls, entries, 0);
      const ok = entries.filter(({ workload, outcome }) => workload === "steady" && outcome === "ok");
      // The first of them by the ebb before.
      assert.equal(ok.length, 1 + served + 1);
    } finally {
      await daemon.stop();
    }
    await nothingLeftOf(lives);
    assert.deepEqual(readdirSync(join(directory, "uploads")), []);
  });
});

describe("beside another ebb", () => {
  const root = temporaryDirectory();
  const aged = join(root, "aged");
  const mended = join(root, "mended");
  let first: Daemon;
  const inItsDatabase = (statement: string): void => {
    const database = new DatabaseSync(join(aged, "ebb.db"), { timeout: 5_000 });
    database.exec(statement);
    database.close();
  };
  const oldDays = (): unknown => {
    const database = new DatabaseSync(join(aged, "ebb.db"), { readOnly: true, timeout: 5_000 });
    const [days] = database
      .prepare("select count(*) as count from record_days where day_ms < ?")
      .all(Date.now() - 10 * 86_400_000);
    database.close();
    return days?.["count"];
  };
  before(async () => {
    used(mended);
    used(aged);
    // Twenty days pass for all that ran.
    for (const time of [
      "record_blocks set slot_ms = slot_ms",
      "record_days set day_ms = day_ms",
      "usage_totals set hour_ms = hour_ms",
    ])
      inItsDatabase(`update ${time} - ${20 * 86_400_000}`);
    first = await startDaemon({ directory: aged });
  });
  after(async () => {
    await first.stop();
    removeDirectory(root);
  });

  test("hourly totals survive the retention of records", async () => {
    const called = async (): Promise<unknown> =>
      (await first.fetch("steady.localhost", "/")).headers["ebb-invocation-id"];
    const recorded = async (): Promise<string[]> =>
      (await first.client.workloads.invocations("default", "steady")).map(({ id }) => id);
    const one = await called();
    await eventually("the new record is there, beside the old one", async () => {
      const ids = await recorded();
      return ids.length === 2 && ids[0] === one;
    });
    // An hour later retention looks, when something has run and nobody asks for it.
    inItsDatabase("update journal set retained_ms = retained_ms - 3600001");
    const another = await called();
    await eventually("the old record is gone", async () => oldDays() === 0);
    assert.deepEqual(await recorded(), [another, one]);
    const { rows } = await first.client.usage("default");
    assert.equal(
      rows.reduce((sum, row) => sum + row.requests, 0),
      3,
    );
  });

  test("a data directory that it uses: it is named, and goes on", async () => {
    const words = await refusal(first.directory);
    assert.match(words, new RegExp(`in use by another ebb \\(process ${first.process.pid}\\)`));
    assert.equal((await first.fetch("steady.localhost", "/")).status, 200);
  });

  test("a taken port is named, and nothing is left of the start", async (t) => {
    const words = await refusal(join(place(t), "data"), ["--listen", `127.0.0.1:${first.port}`]);
    assert.match(words, new RegExp(`${first.port}.*(taken|in use)`));
  });

  test("broken data is said, and nothing is overwritten; of a newer ebb, or foreign: src/store/client.test.ts, src/daemon/prepare.test.ts", async () => {
    for (const file of ["ebb.db", "secrets.key"]) {
      const path = join(mended, file);
      const whole = readFileSync(path);
      for (const name of ["ebb.db-wal", "ebb.db-shm"]) rmSync(join(mended, name), { force: true });
      writeFileSync(path, Buffer.alloc(whole.length + 4096, "garbage "));
      const words = await refusal(mended);
      assert.ok(words.includes(file), `${file}: ${words}`);
      assert.match(words, /broken|damaged|restore it/i);
      assert.equal(readFileSync(path).toString("latin1", 0, 8), "garbage ");
      writeFileSync(path, whole);
    }
  });

  test("two with different data directories touch nothing of each other's, whichever dies; the second serves what was broken and is mended, with damage that costs nothing, and a link leads to it", async () => {
    const directory = mended;
    for (const file of ["credentials.json", "isolation.json", "pid"]) writeFileSync(join(directory, file), "garbage");
    for (const name of readdirSync(join(directory, "journal")))
      writeFileSync(join(directory, "journal", name), Buffer.alloc(20_000, "garbage "));
    const load = startLoad({ port: first.port, workloads: ["steady", "steady"], pauseMs: 50 });
    let second = await startDaemon({ directory });
    const lives = livesOf(second.process.pid ?? 0);
    try {
      assert.equal((await second.fetch("steady.localhost", "/")).status, 200, second.log());
      await second.kill();
      await nothingLeftOf(lives, 2_500);
      for (const file of ["credentials.json", "isolation.json"]) truncateSync(join(directory, file));
      symlinkSync(directory, join(root, "link"));
      second = await startDaemon({ directory: join(root, "link") });
      assert.equal((await second.fetch("steady.localhost", "/")).status, 200, second.log());
      await second.stop();
      await load.stop();
      for (const one of load.seen) assert.equal(one.status, 200, `${one.text} ${one.error}`);
    } finally {
      await load.stop();
      await second.stop();
    }
  });
});
