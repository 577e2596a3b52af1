// Runs of jobs in real sandboxes: what they write, leave, use and are ended by, and what a death of ebb does to them.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { RunOptions, RunRow } from "#client/client.ts";
import { installation } from "#config.ts";
import { imageOf, layerOf, writeLayout } from "#images/images.testing.ts";
import { folderOf, startDaemon, type Daemon } from "./fixture.ts";
import { livesOf, spawnerOf, supervisorOf } from "./traces.ts";

const settings = "source: ./src, memoryMb: 64, egress: none";
const app = folderOf({
  "ebb.yaml": `jobs:
  script: { ${settings}, command: [./run.sh], retries: 1 }
  node: { ${settings}, command: [node, -p, "process.version"] }
  snake: { ${settings}, command: [python3, -c, "open('/ebb/result', 'w').write('hiss')"] }
  four: { ${settings}, command: [sh, -c, "echo $EBB_JOB_INDEX of $EBB_JOB_COUNT >/ebb/result"], parallelism: 4 }
  missing: { ${settings}, command: [no-such-program] }
  hungry: { ${settings}, command: [node, -e, "const a = []; for (;;) a.push(Buffer.alloc(1e6, 1))"] }
  stubborn: { ${settings}, command: [./stubborn.sh], timeoutSeconds: 1 }
  flood: { ${settings}, command: [sh, -c, "yes >/ebb/result"] }
  lasting: { ${settings}, command: [./lasting.sh] }
  once: { ${settings}, command: [./lasting.sh], rerunOnInterrupt: false }
  long: { ${settings}, command: [./long.sh] }
`,
  "src/run.sh": `#!/bin/sh
echo "run $EBB_RUN attempt $EBB_JOB_ATTEMPT index $EBB_JOB_INDEX of $EBB_JOB_COUNT"
echo "args $* word $WORD project $EBB_PROJECT port $PORT" >&2
printf 'left by %s' "$EBB_JOB_ATTEMPT" >"$EBB_RESULT"
exit "\${CODE:-0}"
`,
  // Forks away from its parent, its session and its process group, and hears nothing.
  "src/stubborn.sh": `#!/bin/sh
trap '' TERM
(trap '' TERM; perl -e 'use POSIX; fork and exit; POSIX::setsid(); fork and exit; sleep 300') &
echo deaf
while :; do sleep 1; done
`,
  // Says what comes until it is asked to end, as one that was done.
  "src/long.sh": `#!/bin/sh
trap 'echo last; echo kept >/ebb/result; exit 5' TERM
n=0
while :; do n=$((n + 1)); echo "line $n"; sleep 0.05; done
`,
  // The first attempt waits for its end, the next one does it.
  "src/lasting.sh": `#!/bin/sh
echo "attempt $EBB_JOB_ATTEMPT"
[ "$EBB_JOB_ATTEMPT" -gt 1 ] && exit 0
# The first process of a sandbox hears only what it listens for.
trap 'exit 143' TERM
while :; do sleep 0.1; done
`,
});
/** What an image's program is told, and that its files are its user's to write. */
const batch = `#!/bin/sh
echo kept >note && cat note
printf '[%s] ' "$@" >args
echo "$(id -u) $(id -g) $(pwd) $MODE $LEVEL $(cat args)$EBB_JOB_INDEX of $EBB_JOB_COUNT" >/ebb/result
`;
const executable = async (): Promise<void> => {
  const { chmod } = await import("node:fs/promises");
  for (const name of readdirSync(`${app}/src`)) await chmod(`${app}/src/${name}`, 0o755);
};

let daemon: Daemon;
before(async () => {
  await executable();
  daemon = await startDaemon();
  const deployed = await daemon.ebb(["deploy", app]);
  assert.equal(deployed.code, 0, deployed.stderr);
});
after(async () => {
  await daemon.stop();
  await rm(app, { recursive: true });
  await rm(daemon.directory, { recursive: true, force: true });
});

async function ended(id: string): Promise<RunRow> {
  for (;;) {
    const run = await daemon.client.runs.show("default", id, 30);
    if (run.ended !== null) return run;
  }
}

async function runOf(job: string, options: RunOptions = {}): Promise<RunRow> {
  return ended((await daemon.client.runs.start("default", job, options)).id);
}

/** Waits until a line like this is in the log of a run. */
async function said(id: string, line: string): Promise<void> {
  const stop = new AbortController();
  const follow = daemon.client.followLogs("default", { run: id }, stop.signal);
  const coming = follow.next();
  const known = await daemon.client.logs("default", { run: id });
  if (!known.some(({ message }) => message === line))
    for (let next = await coming; next.done !== true; next = await follow.next())
      if (next.value.message === line) break;
  // Asked for, it is on the disk as well.
  await daemon.client.logs("default", { run: id });
  stop.abort();
  await coming.catch(() => undefined);
}

async function resultOf(id: string, index = 0): Promise<string> {
  return Buffer.concat(await Array.fromAsync(await daemon.client.runs.result("default", id, index))).toString();
}

test("a run writes its log, leaves its result, and is metered as one invocation an attempt", async () => {
  const run = await runOf("script", { args: ["a b", "$x", "'"], env: { WORD: "it's" } });
  assert.deepEqual([run.state, run.exitCode, run.tasks[0]?.attempts], ["succeeded", 0, 1]);
  const lines = await daemon.client.logs("default", { run: run.id });
  assert.deepEqual(lines.map(({ stream, message }) => `${stream}: ${message}`).toSorted(), [
    "stderr: args a b $x ' word it's project default port ",
    `stdout: run ${run.id} attempt 1 index 0 of 1`,
  ]);
  assert.deepEqual([...new Set(lines.map(({ invocation }) => invocation))], [run.tasks[0]?.invocation]);
  assert.equal(await resultOf(run.id), "left by 1");
  const record = await daemon.client.invocation("default", run.tasks[0]!.invocation!);
  assert.deepEqual([record.trigger, record.outcome, record.memoryMb, record.bytesOut], ["manual", "ok", 64, 9]);
  assert.ok(record.billedMs > 0 && record.billedMs < 60_000 && record.cpuMs !== null && record.cpuMs > 0);
  const { rows } = await daemon.client.usage("default");
  assert.equal(rows.find(({ workload }) => workload === "script")?.requests, 1);
});

test("the command line runs, waits, lists, shows the log and the result", async () => {
  const failed = await daemon.ebb(["jobs", "run", "script", "--wait", "--env", "CODE=3"]);
  assert.equal(failed.code, 1);
  assert.match(failed.stdout, /^run \S+ of script \(r1\)\nfailed: It exited with code 3\.\n$/);
  const [run] = await daemon.json<RunRow[]>(["jobs", "runs", "script", "--limit", "1"]);
  assert.deepEqual([run?.state, run?.reason, run?.exitCode, run?.tasks[0]?.attempts], ["failed", "error", 3, 2]);
  const log = await daemon.ebb(["logs", "script", "--run", run!.id]);
  assert.match(log.stdout, /attempt 1[^]*exited with code 3\. It will be tried again\.[^]*attempt 2/);
  assert.equal((await daemon.ebb(["jobs", "result", run!.id])).stdout, "left by 2");
});

test("programs of the root, Node and Python run; what is missing is said", async () => {
  const [node, snake, missing] = await Promise.all([runOf("node"), runOf("snake"), runOf("missing")]);
  assert.deepEqual([node.state, snake.state], ["succeeded", "succeeded"]);
  const [line] = await daemon.client.logs("default", { run: node.id });
  assert.match(line?.message ?? "", /^v26\./);
  assert.equal(await resultOf(snake.id), "hiss");
  assert.deepEqual([missing.state, missing.exitCode], ["failed", 127]);
  assert.match(missing.message ?? "", /command was not found/);
});

test("nobody calls a job: whoever may is told what it is, and nobody else that it is there", async () => {
  assert.equal((await daemon.fetch("script.localhost", "/")).status, 401);
  const { token } = await daemon.json<{ token: string }>(["token"]);
  const answer = await daemon.fetch("script.localhost", "/", { headers: { "ebb-token": token } });
  assert.equal(answer.status, 404);
  assert.match(answer.text, /is a job, which answers no requests; run it: ebb jobs run script/);
});

test("the tasks of a run are told which they are, and each leaves its own", async () => {
  const run = await runOf("four");
  assert.equal(run.state, "succeeded");
  for (const index of [0, 3]) assert.equal(await resultOf(run.id, index), `${index} of 4\n`);
});

test("memory and results have their bounds", async () => {
  const [hungry, flood] = await Promise.all([runOf("hungry"), runOf("flood")]);
  assert.deepEqual([hungry.state, hungry.reason], ["failed", "memory"]);
  assert.match(hungry.message ?? "", /out of memory: 64 MiB, peak 6\d; raise memoryMb\./);
  assert.deepEqual([flood.state, flood.tasks[0]?.resultBytes], ["failed", null]);
  assert.match(flood.message ?? "", /result was larger than 16 MiB/);
});

test("the example renders a real PDF, whose table of offsets is right and whose text is there", async (t) => {
  const deployed = await daemon.ebb(["deploy", join(installation, "examples", "pdf-report")]);
  assert.equal(deployed.code, 0, deployed.stderr);
  const run = await runOf("pdf-report", { args: ["2026-11"] });
  assert.equal(run.state, "succeeded", run.message ?? "");
  const bytes = Buffer.concat(await Array.fromAsync(await daemon.client.runs.result("default", run.id)));
  const file = bytes.toString("latin1");
  assert.match(file, /^%PDF-1\.4\n[^]*\n%%EOF\n$/);
  const table = Number(/startxref\n(\d+)\n/.exec(file)?.[1]);
  const [, ...offsets] = [...file.slice(table).matchAll(/^(\d{10}) \d{5} [nf] $/gm)].map(([, at]) => Number(at));
  assert.ok(file.startsWith("xref\n", table) && offsets.length > 4);
  for (const [i, at] of offsets.entries()) assert.ok(file.startsWith(`${i + 1} 0 obj\n`, at), `object ${i + 1}`);
  if (!existsSync("/usr/bin/pdftotext")) return t.diagnostic("no pdftotext: its text was not read");
  const text = execFileSync("/usr/bin/pdftotext", ["-", "-"], { input: bytes, encoding: "utf8" });
  assert.match(text, /Orders of 2026-11[^]*2026-11-30/);
});

const noImages = ["/usr/bin/skopeo", "/bin/busybox"].find((path) => !existsSync(path));

test(
  "an image runs to its end as it says itself: its program, user, folder and files",
  { skip: noImages ?? false },
  async () => {
    const programs = ["sh", "id", "cat"].map(
      (name) => ({ name: `bin/${name}`, type: "symlink", linkname: "busybox" }) as const,
    );
    const layer = await layerOf([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      ...programs,
      { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nbatch:x:101:102::/srv:/bin/sh\n" },
      { name: "srv/", type: "directory", mode: 0o755, uid: 101, gid: 102 },
      { name: "bin/batch", mode: 0o755, content: batch },
    ]);
    const said = {
      User: "batch",
      WorkingDir: "/srv",
      Entrypoint: ["batch"],
      Cmd: ["from", "image"],
      Env: ["MODE=image"],
    };
    const job = "image: ./image, memoryMb: 64, egress: none";
    const images = folderOf({
      "ebb.yaml": `jobs:
  batch: { ${job}, env: { LEVEL: info }, parallelism: 2 }
  other: { ${job}, command: [no-such-program] }
  forbidden: { ${job}, command: [/etc/passwd] }
  hoard: { ${job}, command: [sh, -c, "cat /dev/zero >/srv/all"] }
  full: { ${job}, writableMb: 4, command: [sh, -c, "cat /dev/zero >/srv/all"] }
`,
    });
    writeLayout(join(images, "image"), imageOf([layer], { config: said }));
    try {
      const deployed = await daemon.ebb(["deploy", images]);
      assert.equal(deployed.code, 0, deployed.stderr);
      assert.match(
        deployed.stdout,
        /^batch {6}job {2}\.\/image@sha256:[0-9a-f]{12} \(batch from image\) {3}r1 \(new\)/m,
      );
      const [run, over, other, forbidden, hoard, full] = await Promise.all([
        runOf("batch"),
        runOf("batch", { args: ["a b", "$x"], env: { MODE: "run" }, parallelism: 1 }),
        ...["other", "forbidden", "hoard", "full"].map((name) => runOf(name)),
      ]);
      assert.deepEqual([run.state, over.state], ["succeeded", "succeeded"], `${run.message} ${over.message}`);
      assert.equal(await resultOf(run.id, 1), "101 102 /srv image info [from] [image] 1 of 2\n");
      assert.equal(await resultOf(over.id), "101 102 /srv run info [a b] [$x] 0 of 1\n");
      const lines = await daemon.client.logs("default", { run: over.id });
      assert.deepEqual(lines.map(({ message }) => message), ["kept"]); // prettier-ignore
      const record = await daemon.client.invocation("default", over.tasks[0]!.invocation!);
      assert.deepEqual([record.outcome, record.memoryMb, record.trigger], ["ok", 64, "manual"]);

      assert.deepEqual([other?.state, other?.reason, other?.exitCode], ["failed", "error", 127]);
      assert.match(other?.message ?? "", /command was not found/);
      assert.equal(forbidden?.exitCode, 126);
      assert.match(forbidden?.message ?? "", /command cannot be executed/);
      assert.deepEqual([hoard?.state, hoard?.reason], ["failed", "memory"]);
      assert.deepEqual([full?.state, full?.reason, full?.exitCode], ["failed", "error", 1]);

      const shown = await daemon.client.workloads.show("default", "batch");
      assert.deepEqual([shown.kind, shown.runtime, shown.image], ["job", null, "./image"]);
      assert.deepEqual(shown.settings["args"], { value: ["from", "image"], source: "image" });

      writeLayout(join(images, "image"), imageOf([layer], { config: { ...said, User: "nobody-known" } }));
      const refused = await daemon.ebb(["deploy", images]);
      assert.equal(refused.code, 1);
      assert.match(
        refused.stderr,
        /^batch: the image cannot be run: .*"nobody-known", who is not in its \/etc\/passwd/,
      );
    } finally {
      await rm(images, { recursive: true });
    }
  },
);

test("one that ignores SIGTERM and forks away is gone at its timeout, and nothing of it is left", async () => {
  const run = await runOf("stubborn");
  assert.deepEqual([run.state, run.reason], ["failed", "timeout"]);
  assert.deepEqual(processesOf("stubborn.sh"), []);
  assert.deepEqual(processesOf("sleep 300"), []);
});

test("a stop ends a run, and its log says so", async () => {
  const { id } = await daemon.client.runs.start("default", "lasting");
  await said(id, "attempt 1");
  const stopped = await daemon.ebb(["jobs", "stop", id]);
  assert.match(stopped.stdout, /is stopping/);
  assert.equal((await ended(id)).state, "stopped");
  assert.deepEqual(processesOf("lasting.sh"), []);
});

test("a run that a planned stop interrupts is run again by the next ebb, one that must not be is not", async () => {
  const { id } = await daemon.client.runs.start("default", "lasting");
  const once = await daemon.client.runs.start("default", "once");
  await Promise.all([said(id, "attempt 1"), said(once.id, "attempt 1")]);
  assert.equal(await daemon.stop(), 0);
  assert.deepEqual(processesOf("lasting.sh"), []);
  daemon = await startDaemon({ directory: daemon.directory });
  const run = await ended(id);
  assert.deepEqual([run.state, run.tasks[0]?.attempts], ["succeeded", 2]);
  const lost = await ended(once.id);
  assert.deepEqual([lost.state, lost.message], ["interrupted", "ebb stopped while it ran."]);
});

test("kill -9 of ebb and its spawner does not touch a run: the next ebb has it, every line, its end and its record", async () => {
  const { id } = await daemon.client.runs.start("default", "long");
  await said(id, "line 3");
  const [life] = livesOf(daemon.process.pid ?? 0);
  assert.ok(life);
  process.kill(spawnerOf(life) ?? 0, "SIGKILL");
  await daemon.kill();
  const pids = processesOf("long.sh");
  assert.equal(pids.length, 1);
  daemon = await startDaemon({ directory: daemon.directory });
  assert.deepEqual(processesOf("long.sh"), pids);
  const adopted = await daemon.client.runs.show("default", id);
  assert.deepEqual([adopted.state, adopted.tasks[0]?.attempts], ["running", 1]);
  // logs -f: it goes on.
  const { length } = await daemon.client.logs("default", { run: id });
  await said(id, `line ${length + 5}`);
  await daemon.client.runs.stop("default", id);
  const run = await ended(id);
  assert.deepEqual([run.state, run.exitCode], ["stopped", 5]);
  const lines = await daemon.client.logs("default", { run: id });
  const numbers = lines.flatMap(({ message }) => /^line (\d+)$/.exec(message)?.[1] ?? []).map(Number);
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => i + 1),
  );
  assert.equal(lines.filter(({ message }) => message === "last").length, 1);
  assert.equal(await resultOf(id), "kept\n");
  const record = await daemon.client.invocation("default", run.tasks[0]!.invocation!);
  assert.deepEqual([record.trigger, record.outcome, record.bytesOut], ["manual", "interrupted", 5]);
  assert.ok(record.billedMs >= numbers.length * 50, `billed ${record.billedMs} ms of ${numbers.length} lines`);
  assert.deepEqual(processesOf("long.sh"), []);
});

test("a supervisor killed by hand ends its run, which the platform is blamed for and begins again", async () => {
  const { id } = await daemon.client.runs.start("default", "lasting");
  await said(id, "attempt 1");
  const [life] = livesOf(daemon.process.pid ?? 0);
  process.kill(supervisorOf(life!) ?? 0, "SIGKILL");
  const run = await ended(id);
  assert.deepEqual([run.state, run.tasks[0]?.attempts], ["succeeded", 2]);
  assert.deepEqual(processesOf("lasting.sh"), []);
  const lines = await daemon.client.logs("default", { run: id });
  assert.deepEqual(
    lines.filter(({ stream }) => stream === "stdout").map(({ message }) => message),
    ["attempt 1", "attempt 2"],
  );
});

/** Of this test's own jobs: no other has these words in its command line. A child that is about to become another program is its parent. */
function processesOf(words: string): string[] {
  const found = new Map<string, { readonly parent: string; readonly line: string }>();
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid) || !existsSync(`/proc/${pid}/cmdline`)) continue;
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
      if (!line.includes(words) || line.includes("--data")) continue;
      const parent = /^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "";
      found.set(pid, { parent, line });
    } catch {
      // It has just ended.
    }
  }
  return [...found].filter(([, { parent }]) => !found.has(parent)).map(([pid, { line }]) => `${pid} ${line}`);
}
