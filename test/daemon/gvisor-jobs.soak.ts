// Jobs in class gvisor, in a real ebb: what an image says of itself, everything that can end a run and how that is told, what is metered,
// and that a death of ebb does not touch a run. The same for class container: jobs.test.ts.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { RunOptions, RunRow } from "#client/client.ts";
import { imageOf, layerOf, writeLayout } from "#images/images.testing.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import { livesOf, nothingLeftOf, programsOf, spawnerOf, supervisorOf, type Life } from "./traces.ts";

const image = "image: ./image, isolation: gvisor, memoryMb: 64, egress: none";
const code = "source: ./src, isolation: gvisor, memoryMb: 64, egress: none";
const app = folderOf({
  "ebb.yaml": `jobs:
  batch: { ${image}, env: { LEVEL: info }, secrets: [KEY], parallelism: 2 }
  owners: { ${image}, command: [/bin/owners], args: [] }
  third: { ${image}, command: [sh, -c, "exit 3"] }
  other: { ${image}, command: [no-such-program] }
  forbidden: { ${image}, command: [/etc/passwd] }
  again: { ${image}, command: [sh, -c, "echo $EBB_JOB_ATTEMPT >/ebb/result; [ $EBB_JOB_ATTEMPT = 2 ]"], retries: 1 }
  hoard: { ${image}, command: [sh, -c, "cat /dev/zero >/srv/all"] }
  full: { ${image}, writableMb: 4, command: [sh, -c, "cat /dev/zero >/srv/all"] }
  deaf: { ${image}, command: [sh, -c, "trap '' TERM; setsid sleep 300 & echo deaf; while :; do sleep 1; done"], timeoutSeconds: 1 }
  asked: { ${image}, command: [sh, -c, "trap 'echo asked; exit 0' TERM; echo waits; while :; do sleep 0.1; done"], timeoutSeconds: 2 }
  long: { ${image}, command: [/bin/long] }
  once: { ${image}, command: [/bin/once], rerunOnInterrupt: false }
  lasting: { ${image}, command: [/bin/once] }
  hungry: { ${code}, command: [node, -e, "const a = []; for (;;) a.push(Buffer.alloc(1e6, 1))"] }
  flood: { ${code}, command: [sh, -c, "yes >/ebb/result"] }
  large: { ${code}, command: [node, -e, "process.stdout.write(String(Buffer.alloc(80e6, 1).length))"] }
  crowd: { ${code}, command: [node, crowd.mjs] }
  burns: { ${code}, command: [node, burn.mjs] }
  burns-as-container: { source: ./src, memoryMb: 64, egress: none, command: [node, burn.mjs] }
`,
  // One after the other, and each a dozen threads.
  "src/crowd.mjs": `import { spawn } from "node:child_process";
for (let n = 0; n < 100; n++) {
  const child = spawn(process.execPath, ["-e", "console.log(1); setTimeout(() => {}, 60_000)"], { stdio: ["ignore", "pipe", "ignore"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
}
`,
  "src/burn.mjs": `for (let n = 0; n < 2e9; n++);
`,
});
/** What an image's program is told, and that its files are its user's to write. */
const batch = `#!/bin/sh
echo kept >note && cat note
printf '[%s] ' "$@" >args
echo "$(id -u) $(id -g) $(pwd) $MODE $LEVEL $KEY $(cat args)$EBB_JOB_INDEX of $EBB_JOB_COUNT" >/ebb/result
`;
const owners = `#!/bin/sh
cd /srv
touch mine; chmod 600 mine
{ stat -c '%u:%g %a' . theirs mine; cat theirs 2>&1; chown 0 mine 2>&1; } >/ebb/result
`;
const long = `#!/bin/sh
trap 'echo last; echo kept >/ebb/result; exit 5' TERM
n=0
while :; do n=$((n + 1)); echo "line $n"; sleep 0.05; done
`;
/** The first attempt waits for its end, the next one does it. */
const once = `#!/bin/sh
echo "attempt $EBB_JOB_ATTEMPT"
[ "$EBB_JOB_ATTEMPT" -gt 1 ] && exit 0
trap 'exit 143' TERM
while :; do sleep 0.1; done
`;

const missing = ["/usr/bin/runsc", "/usr/bin/skopeo", "/bin/busybox"].find((path) => !existsSync(path));

describe("jobs in class gvisor", { skip: missing === undefined ? false : `no ${missing}` }, () => {
  let daemon: Daemon;
  const lives: Life[] = [];

  const up = async (directory?: string): Promise<void> => {
    daemon = await startDaemon(directory === undefined ? {} : { directory });
    lives.push(...livesOf(daemon.process.pid ?? 0));
  };

  before(async () => {
    const applets = ["sh", "id", "cat", "stat", "touch", "chmod", "chown", "sleep", "setsid"];
    const programs = Object.entries({ batch, owners, long, once });
    const layer = await layerOf([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      ...applets.map((name) => ({ name: `bin/${name}`, type: "symlink" as const, linkname: "busybox" })),
      ...programs.map(([name, content]) => ({ name: `bin/${name}`, mode: 0o755, content })),
      { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nbatch:x:101:102::/srv:/bin/sh\n" },
      { name: "srv/", type: "directory", mode: 0o755, uid: 101, gid: 102 },
      { name: "srv/theirs", mode: 0o600, uid: 1_000, gid: 1_001, content: "theirs" },
    ]);
    const config = {
      User: "batch",
      WorkingDir: "/srv",
      Entrypoint: ["batch"],
      Cmd: ["from", "image"],
      Env: ["MODE=image"],
    };
    writeLayout(join(app, "image"), imageOf([layer], { config }));
    await chmod(app, 0o755);
    await up();
    assert.equal((await daemon.ebb(["secrets", "set", "KEY"], { stdin: "s3cret" })).code, 0);
    const deployed = await daemon.ebb(["deploy", app]);
    assert.equal(deployed.code, 0, deployed.stderr);
  });
  after(async () => {
    await daemon.stop();
    for (const folder of [app, daemon.directory]) removeDirectory(folder);
  });

  async function ended(id: string): Promise<RunRow> {
    for (;;) {
      const run = await daemon.client.runs.show("default", id, 30);
      if (run.ended !== null) return run;
    }
  }
  const runOf = async (job: string, options: RunOptions = {}): Promise<RunRow> =>
    ended((await daemon.client.runs.start("default", job, options)).id);
  const resultOf = async (id: string, index = 0): Promise<string> =>
    Buffer.concat(await Array.fromAsync(await daemon.client.runs.result("default", id, index))).toString();
  const linesOf = async (id: string): Promise<string[]> =>
    (await daemon.client.logs("default", { run: id })).map(({ message }) => message);
  const recordOf = (run: RunRow) => daemon.client.invocation("default", run.tasks[0]!.invocation!);
  const said = (id: string, line: string) =>
    eventually(`${id} says ${line}`, async () => (await linesOf(id)).includes(line));
  /** Of this daemon's sandboxes: what runsc runs has no command line of its own. */
  const sandboxes = () => programsOf(lives).filter((program) => program === "/usr/bin/runsc").length;

  test("an image runs to its end as it says itself: its program, user, folder, files, and which task of the run it is", async (t) => {
    const { stdout } = await daemon.ebb(["ls"]);
    assert.match(stdout, /^batch +job \(gvisor\) /m);
    const [run, over] = [
      await runOf("batch"),
      await runOf("batch", { args: ["a b", "$x"], env: { MODE: "run" }, parallelism: 1 }),
    ];
    assert.deepEqual([run.state, over.state], ["succeeded", "succeeded"], `${run.message} ${over.message}`);
    assert.equal(await resultOf(run.id, 1), "101 102 /srv image info s3cret [from] [image] 1 of 2\n");
    assert.equal(await resultOf(over.id), "101 102 /srv run info s3cret [a b] [$x] 0 of 1\n");
    assert.deepEqual(await linesOf(over.id), ["kept"]);
    const record = await recordOf(over);
    assert.deepEqual([record.outcome, record.memoryMb, record.trigger], ["ok", 64, "manual"]);
    t.diagnostic(`start ${Math.round(record.startMs)} ms, ran ${Math.round(record.durationMs)} ms`);
  });

  test("its files keep their owners, and its user has no more rights over them than in any container", async () => {
    const run = await runOf("owners");
    const [folder, theirs, mine, ...refusals] = (await resultOf(run.id)).trim().split("\n");
    assert.deepEqual([folder, theirs, mine], ["101:102 755", "1000:1001 600", "101:102 600"]);
    assert.match(refusals.join("\n"), /can't open 'theirs': Permission denied\n.*Operation not permitted/);
  });

  test("how it ended is told: by its code, its memory, its files' bound, its result's, its time", async () => {
    const told = async (job: string): Promise<unknown[]> => {
      const { state, reason, exitCode } = await runOf(job);
      return [state, reason, exitCode];
    };
    assert.deepEqual(await told("third"), ["failed", "error", 3]);
    assert.deepEqual(await told("other"), ["failed", "error", 127]);
    assert.deepEqual(await told("forbidden"), ["failed", "error", 126]);
    assert.deepEqual(await told("full"), ["failed", "error", 1]);
    for (const job of ["hungry", "hoard"]) {
      const run = await runOf(job);
      assert.deepEqual([run.state, run.reason], ["failed", "memory"]);
      assert.match(run.message ?? "", /out of memory: 64 MiB, peak 6\d; raise memoryMb\./);
    }
    const flood = await runOf("flood");
    assert.deepEqual([flood.state, flood.reason, flood.tasks[0]?.resultBytes], ["failed", "error", null]);
    assert.match(flood.message ?? "", /result was larger than 16 MiB/);
    const deaf = await runOf("deaf");
    assert.deepEqual([deaf.state, deaf.reason], ["failed", "timeout"]);
    const asked = await runOf("asked");
    assert.deepEqual([asked.reason, asked.exitCode], ["timeout", 0]);
    assert.deepEqual((await linesOf(asked.id)).slice(0, 2), ["waits", "asked"]);
    assert.equal(sandboxes(), 0);
  });

  test("more processes and threads than a sandbox may have end gVisor's kernel, and that is told", async () => {
    const run = await runOf("crowd", { memoryMb: 768 });
    assert.deepEqual([run.state, run.reason], ["failed", "error"]);
    assert.match(run.message ?? "", /gVisor's kernel ended: it needed more than the 512 processes and threads/);
  });

  test("one that fails is tried again, and knows it", async () => {
    const run = await runOf("again");
    assert.deepEqual([run.state, run.tasks[0]?.attempts, await resultOf(run.id)], ["succeeded", 2, "2\n"]);
  });

  test("a run may have more memory than its job says, and not less than its class needs", async () => {
    assert.equal((await runOf("large")).reason, "memory");
    const run = await runOf("large", { memoryMb: 192 });
    assert.deepEqual([run.state, run.memoryMb], ["succeeded", 192]);
    const refused = await daemon.ebb(["jobs", "run", "large", "--memory", "48"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /isolation: gvisor takes some 20 MiB of memoryMb for itself; write memoryMb: 64/);
  });

  test("the CPU that it is metered with is all that its sandbox used, gVisor's kernel with it", async (t) => {
    const used = async (job: string): Promise<number> => (await recordOf(await runOf(job))).cpuMs ?? 0;
    const [apart, plain] = [await used("burns"), await used("burns-as-container")];
    const words = `${Math.round(apart)} ms, as a container ${Math.round(plain)} ms`;
    t.diagnostic(words);
    // What computes is as dear in both; what is more is its kernel's, and Node's beginning in it.
    assert.ok(plain > 500 && apart > 0.8 * plain && apart < 2 * plain + 500, words);
  });

  test("a stop ends it, and it has its grace", async () => {
    const { id } = await daemon.client.runs.start("default", "long");
    await said(id, "line 3");
    assert.match((await daemon.ebb(["jobs", "stop", id])).stdout, /is stopping/);
    const run = await ended(id);
    assert.deepEqual([run.state, run.exitCode, await resultOf(id)], ["stopped", 5, "kept\n"]);
    assert.equal(sandboxes(), 0);
  });

  test("stopped at any moment of its start it is stopped, and nothing of it is left", async () => {
    const states = new Set<string>();
    for (let n = 0; n < 24; n++) {
      const { id } = await daemon.client.runs.start("default", "once");
      await sleep(n * 40);
      await daemon.client.runs.stop("default", id);
      states.add((await ended(id)).state);
    }
    assert.deepEqual([...states], ["stopped"]);
    await eventually("no sandbox is left", async () => sandboxes() === 0);
  });

  test("kill -9 of ebb at any moment of its start: it is begun once more by the next ebb, or goes on", async () => {
    for (let n = 0; n < 5; n++) {
      const { id } = await daemon.client.runs.start("default", "third");
      await sleep(n * 100);
      await daemon.kill();
      await up(daemon.directory);
      const run = await ended(id);
      assert.deepEqual([run.state, run.exitCode], ["failed", 3], run.message ?? "");
    }
    await eventually("no sandbox is left", async () => sandboxes() === 0);
  });

  test("a planned stop interrupts it: the next ebb runs it again, unless it must not be", async () => {
    const [again, lost] = [
      await daemon.client.runs.start("default", "lasting"),
      await daemon.client.runs.start("default", "once"),
    ];
    for (const { id } of [again, lost]) await said(id, "attempt 1");
    assert.equal(await daemon.stop(), 0);
    await nothingLeftOf(lives);
    await up(daemon.directory);
    const run = await ended(again.id);
    assert.deepEqual([run.state, run.tasks[0]?.attempts], ["succeeded", 2]);
    assert.equal((await ended(lost.id)).state, "interrupted");
  });

  test("kill -9 of ebb and its spawner does not touch a run: the next ebb has it, every line, its end and its record", async () => {
    const { id } = await daemon.client.runs.start("default", "long");
    await said(id, "line 3");
    process.kill(spawnerOf(lives.at(-1)!) ?? 0, "SIGKILL");
    await daemon.kill();
    assert.equal(sandboxes(), 1);
    await up(daemon.directory);
    const adopted = await daemon.client.runs.show("default", id);
    assert.deepEqual([adopted.state, adopted.tasks[0]?.attempts, sandboxes()], ["running", 1, 1]);
    const { length } = await linesOf(id);
    await said(id, `line ${length + 5}`);
    await daemon.client.runs.stop("default", id);
    const run = await ended(id);
    assert.deepEqual([run.state, run.exitCode, await resultOf(id)], ["stopped", 5, "kept\n"]);
    const lines = await linesOf(id);
    const numbers = lines.flatMap((message) => /^line (\d+)$/.exec(message)?.[1] ?? []).map(Number);
    assert.deepEqual(
      numbers,
      numbers.map((_, i) => i + 1),
    );
    assert.equal(lines.filter((message) => message === "last").length, 1);
    const record = await recordOf(run);
    assert.deepEqual([record.outcome, record.bytesOut], ["interrupted", 5]);
    assert.ok(record.billedMs >= numbers.length * 50 && record.cpuMs !== null && record.cpuMs > 0);
  });

  test("a supervisor killed by hand ends it, and it is begun again", async () => {
    const { id } = await daemon.client.runs.start("default", "lasting");
    await said(id, "attempt 1");
    const supervisors = lives.map(supervisorOf).filter((pid) => pid !== null);
    process.kill(supervisors.at(-1)!, "SIGKILL");
    const run = await ended(id);
    assert.deepEqual([run.state, run.tasks[0]?.attempts], ["succeeded", 2]);
    assert.equal(sandboxes(), 0);
  });

  test("stopped, ebb leaves nothing of it on the machine", async () => {
    assert.equal(await daemon.stop(), 0, daemon.log());
    await nothingLeftOf(lives);
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });
});
