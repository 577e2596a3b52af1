// What every sandbox driver must do, whichever way it isolates: one suite, run by each driver's own test.

import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, constants, openSync, readSync } from "node:fs";
import type { Duplex } from "node:stream";
import { after, before, test } from "node:test";
import { request } from "#lib/http.ts";
import { EbbError } from "#model/errors.ts";
import { newInstanceId, newInvocationId, randomHex, type InvocationId, type SandboxId } from "#model/ids.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { Assignment, Exit, PoolKey, RuntimePool, SandboxDriver } from "./door.ts";
import { pauseTests } from "./pause-suite.ts";

/** Code of the suite: the same under every driver. Each file is CommonJS for the fixture shim. */
export const programs = {
  hello: `module.exports = (request, response) => {
      if (request.url === "/say") { console.log("to stdout"); console.error("to stderr"); }
      if (request.url === "/burn") for (const end = Date.now() + 60; Date.now() < end; );
      response.end("hello " + process.env.SECRET + " " + request.url); };`,
  throws: `throw new Error("thrown while it loads");`,
  exits: `module.exports = () => process.exit(3);`,
  exitsInLoad: `process.exit(4);`,
  deaf: `process.on("SIGTERM", () => {}); process.removeAllListeners("SIGTERM"); process.on("SIGTERM", () => {});
    module.exports = (request, response) => response.end("deaf");`,
  tells: `module.exports = (request, response, told) => { told("nonsense"); told(request.headers.id); response.end(); };`,
} as const;

export type ProgramName = keyof typeof programs;

export interface Harness {
  readonly driver: SandboxDriver;
  /** Stores the program as index.js (or what `file` says); answers its digest. */
  readonly code: (source: string, file?: string, executable?: boolean) => Promise<string>;
  /** Everything started is stopped. */
  close(): Promise<void>;
}

export interface SuiteOptions {
  readonly open: () => Promise<Harness>;
  /** Test name to why this driver does not run it. */
  readonly skip?: Readonly<Partial<Record<string, string>>>;
  /** These alone: for a second way of the same driver, what depends on the way. */
  readonly only?: readonly string[];
  /** Why the whole suite cannot run here. */
  readonly skipAll?: string | null;
}

export const poolOf = (runtime: RuntimeName, memoryMb = 128): RuntimePool => ({
  runtime,
  memoryMb,
  tmpBytes: 16 * 1024 * 1024,
  egress: "none",
});

export function assignmentOf(codeDigest: string | null, over: Partial<Assignment> = {}): Assignment {
  return {
    instance: newInstanceId(),
    project: "default",
    workload: "suite",
    codeDigest,
    entry: "index.js",
    handler: null,
    signature: null,
    command: null,
    port: 8080,
    probe: { tcp: true },
    concurrency: 1,
    env: { SECRET: "from the assignment" },
    cpu: 0.5,
    cpuStrict: false,
    timeoutMs: 10_000,
    egress: "none",
    credential: randomHex(16),
    nonce: randomHex(16),
    check: false,
    loadCache: null,
    makeLoadCache: false,
    takeWithinMs: null,
    ...over,
  };
}

export interface Started {
  readonly id: SandboxId;
  readonly exited: Promise<Exit>;
  readonly exits: Exit[];
  readonly done: InvocationId[];
  /** Resolves with the first invocation that is told to be over. */
  readonly told: Promise<InvocationId>;
}

export async function prepare(driver: SandboxDriver, pool: PoolKey): Promise<Started> {
  const { promise, resolve } = Promise.withResolvers<Exit>();
  const exits: Exit[] = [];
  const done: InvocationId[] = [];
  const told = Promise.withResolvers<InvocationId>();
  const id = await driver.prepare(pool, {
    done: (invocation) => {
      done.push(invocation);
      told.resolve(invocation);
    },
    exited: (exit) => {
      exits.push(exit);
      resolve(exit);
    },
  });
  return { id, exited: promise, exits, done, told: told.promise };
}

/** One that is under way without any code when this resolves, as those of a pool are. */
export async function startAhead(driver: SandboxDriver, pool: PoolKey): Promise<Started> {
  const sandbox = await prepare(driver, pool);
  await new Promise((resolve) => void setImmediate(() => setImmediate(resolve)));
  return sandbox;
}

export function get(
  driver: SandboxDriver,
  id: SandboxId,
  path = "/",
  headers: Record<string, string> = {},
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { createConnection: () => driver.connect(id), path, headers: { host: "suite", ...headers } },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (text: string) => (body += text));
        response.on("error", reject);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      },
    );
    sent.on("error", reject);
    sent.end();
  });
}

export function runSandboxSuite(name: string, options: SuiteOptions): void {
  let harness: Harness;
  const unknown = new Set(options.only);
  const it = (behaviour: string, run: () => Promise<void>): void => {
    if (options.only !== undefined && !unknown.delete(behaviour)) return;
    const skip = options.skipAll ?? options.skip?.[behaviour] ?? false;
    test(`${name}: ${behaviour}`, { skip }, run);
  };
  before(async () => {
    if (!options.skipAll) harness = await options.open();
  });
  after(async () => {
    if (!options.skipAll) await harness.close();
  });
  const started = async (source: string, over: Partial<Assignment> = {}): Promise<Started> => {
    const sandbox = await prepare(harness.driver, poolOf("node26"));
    const ready = await harness.driver.assign(sandbox.id, assignmentOf(await harness.code(source), over));
    assert.ok(ready.ok, ready.ok ? "" : ready.failure.message);
    return sandbox;
  };
  lifeTests(it, () => harness, started);
  sharedTests(it, () => harness, started);
  controlTests(it, () => harness, started);
  oneOffTests(it, () => harness);
  assert.deepEqual([...unknown], [], "is no behaviour of the suite");
}

export type It = (behaviour: string, run: () => Promise<void>) => void;
type StartedOf = (source: string, over?: Partial<Assignment>) => Promise<Started>;

function lifeTests(it: It, harness: () => Harness, started: StartedOf): void {
  it("what is assigned at once serves the code with the assignment's environment", async () => {
    const { driver } = harness();
    const sandbox = await started(programs.hello);
    assert.deepEqual(await get(driver, sandbox.id, "/a"), { status: 200, body: "hello from the assignment /a" });
    await driver.stopSandbox(sandbox.id, 5_000);
    assert.equal((await sandbox.exited).reason, "stopped");
    assert.equal(sandbox.exits.length, 1);
  });

  it("what was started ahead without code serves the code that it is assigned later", async () => {
    const { driver, code } = harness();
    const digest = await code(programs.hello);
    const sandbox = await startAhead(driver, poolOf("node26"));
    const ready = await driver.assign(sandbox.id, assignmentOf(digest));
    assert.ok(ready.ok, ready.ok ? "" : ready.failure.message);
    assert.equal((await get(driver, sandbox.id)).status, 200);
    await driver.stopSandbox(sandbox.id, 0);
  });

  it("what was started ahead and is dead, or deaf, when its code comes is told apart from code that does not load", async () => {
    const { driver, code } = harness();
    const loads = await startAhead(driver, poolOf("node26"));
    const failed = await driver.assign(loads.id, assignmentOf(await code(programs.throws), { takeWithinMs: 20_000 }));
    assert.ok(!failed.ok && failed.untouched !== true);
    const deaf = await startAhead(driver, poolOf("node26"));
    const late = await driver.assign(deaf.id, assignmentOf(await code(programs.hello), { takeWithinMs: 1 }));
    assert.ok(!late.ok && late.untouched === true);
    await deaf.exited;
  });

  it("a sandbox that was never assigned stops and says so", async () => {
    const { driver } = harness();
    const sandbox = await prepare(driver, poolOf("node26"));
    await driver.stopSandbox(sandbox.id, 5_000);
    assert.equal((await sandbox.exited).reason, "stopped");
    assert.equal(sandbox.exits.length, 1);
  });

  it("code that throws while it loads is the function's failure, and the sandbox goes", async () => {
    const { driver, code } = harness();
    const sandbox = await prepare(driver, poolOf("node26"));
    const answer = await driver.assign(sandbox.id, assignmentOf(await code(programs.throws)));
    assert.ok(!answer.ok);
    assert.equal(answer.failure.fault, "function");
    assert.match(answer.failure.message, /thrown while it loads/);
    await sandbox.exited;
    assert.equal(sandbox.exits.length, 1);
  });

  it("code that exits while it loads is the function's failure with its exit code", async () => {
    const { driver, code } = harness();
    const sandbox = await prepare(driver, poolOf("node26"));
    const answer = await driver.assign(sandbox.id, assignmentOf(await code(programs.exitsInLoad)));
    assert.ok(!answer.ok);
    assert.match(answer.failure.message, /code 4/);
    await sandbox.exited;
  });

  it("an instance that exits by itself is told once, with its code, and its connections end", async () => {
    const { driver } = harness();
    const sandbox = await started(programs.exits);
    await assert.rejects(get(driver, sandbox.id));
    const exit = await sandbox.exited;
    assert.deepEqual([exit.reason, exit.code], ["exited", 3]);
    assert.equal(sandbox.exits.length, 1);
    await assertLost(driver.connect(sandbox.id));
  });

  it("what ignores SIGTERM is killed when the grace is over", async () => {
    const { driver } = harness();
    const sandbox = await started(programs.deaf);
    await driver.stopSandbox(sandbox.id, 50);
    assert.equal((await sandbox.exited).reason, "killed");
  });

  it("many sandboxes start, serve and stop at once", async () => {
    const { driver } = harness();
    const sandboxes = await Promise.all([1, 2, 3].map(() => started(programs.hello)));
    const answers = await Promise.all(sandboxes.map(({ id }) => get(driver, id)));
    assert.ok(answers.every(({ status }) => status === 200));
    await Promise.all(sandboxes.map(({ id }) => driver.stopSandbox(id, 0)));
    assert.ok(sandboxes.every(({ exits }) => exits.length === 1));
  });
}

/** Of one that serves: the last of them ends it, and each before leaves it as it was. */
function sharedTests(it: It, harness: () => Harness, started: StartedOf): void {
  let serves: Promise<Started> | undefined;
  const serving = (): Promise<Started> => (serves ??= started(programs.hello));

  it("requests that come together are answered, each its own", async () => {
    const { id } = await serving();
    const answers = await Promise.all(["/1", "/2", "/3"].map((path) => get(harness().driver, id, path)));
    assert.deepEqual(
      answers.map(({ body }) => body.slice(-2)),
      ["/1", "/2", "/3"],
    );
  });

  pauseTests(
    it,
    () => harness().driver,
    serving,
    () => started(programs.hello),
  );

  it("output can be read where the driver says", async () => {
    const { driver } = harness();
    const { id } = await serving();
    const source = driver.output(id);
    assert.equal(source.kind, "fifo");
    if (source.kind !== "fifo") return;
    const fds = [source.stdout, source.stderr].map((path) => openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    try {
      await get(driver, id, "/say");
      assert.deepEqual(await Promise.all(fds.map(firstOf)), ["to stdout\n", "to stderr\n"]);
    } finally {
      fds.forEach((fd) => closeSync(fd));
    }
  });

  it("CPU time is counted", async () => {
    const { driver } = harness();
    if (driver.capabilities().usage !== "exact") return;
    const { id } = await serving();
    const first = driver.usage(id).cpuNs;
    await get(driver, id, "/burn");
    const second = driver.usage(id);
    assert.ok(first !== null && second.cpuNs !== null && second.cpuNs > first);
    assert.ok(second.memoryPeakBytes !== null && second.memoryPeakBytes > 0);
    assert.ok((second.memoryBytes ?? 0) > 0, "and what it holds");
  });

  it("no grace kills at once, and stopping what is gone is nothing", async () => {
    const { driver } = harness();
    const sandbox = await serving();
    await Promise.all([driver.stopSandbox(sandbox.id, 0), driver.stopSandbox(sandbox.id, 0)]);
    assert.equal((await sandbox.exited).reason, "killed");
    await driver.stopSandbox(sandbox.id, 0);
    assert.equal(sandbox.exits.length, 1);
  });
}

/** It says by its error, and not by an exception, that there is no sandbox to connect to. */
export async function assertLost(connection: Duplex): Promise<void> {
  const [error]: unknown[] = await once(connection, "error");
  assert.ok(error instanceof EbbError && error.code === "platform_lost_instance");
}

/** An engine that copies what it reads of its program (runc) may be a moment behind the answer. */
async function firstOf(fd: number): Promise<string> {
  const buffer = Buffer.alloc(64);
  for (;;)
    try {
      return buffer.toString("utf8", 0, readSync(fd, buffer));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
      await new Promise((resolve) => void setImmediate(resolve));
    }
}

function controlTests(it: It, harness: () => Harness, started: StartedOf): void {
  it("the runtime's word that an invocation is over arrives, and nonsense does not", async () => {
    const { driver } = harness();
    const sandbox = await started(programs.tells, { env: { DONE: "told" } });
    const id = newInvocationId(1);
    await get(driver, sandbox.id, "/", { id });
    assert.equal(await sandbox.told, id);
    assert.deepEqual(sandbox.done, [id]);
    await driver.stopSandbox(sandbox.id, 0);
  });

  // What else is none: runtime-link.test.ts.
  it("a runtime that answers no JSON is a failed start", async () => {
    const { driver, code } = harness();
    const sandbox = await prepare(driver, poolOf("node26"));
    const over = { entry: "raw", env: { SAY: "certainly not JSON\n" } };
    const answer = await driver.assign(sandbox.id, assignmentOf(await code(programs.hello), over));
    assert.ok(!answer.ok);
    assert.match(answer.failure.message, /^The runtime /);
    await sandbox.exited;
  });

  it("a check loads the code and serves nothing", async () => {
    const { driver } = harness();
    const sandbox = await started(programs.hello, { check: true });
    await driver.stopSandbox(sandbox.id, 0);
    await sandbox.exited;
  });

  it("a sandbox that does not exist is told as lost", async () => {
    const { driver } = harness();
    await assert.rejects(driver.assign("s000000000000", assignmentOf(null)), { code: "platform_lost_instance" });
    await assertLost(driver.connect("s000000000000"));
  });

  it("runtime python3 keeps the same contract", async () => {
    const { driver, code } = harness();
    const digest = await code("import os\ndef handle(path):\n    return os.environ['SECRET'] + path\n", "main.py");
    const sandbox = await prepare(driver, poolOf("python3"));
    const ready = await driver.assign(sandbox.id, assignmentOf(digest, { entry: "main.py" }));
    assert.ok(ready.ok, ready.ok ? "" : ready.failure.message);
    assert.equal((await get(driver, sandbox.id, "/x")).body, "from the assignment/x");
    await driver.stopSandbox(sandbox.id, 0);
  });

  it("runtime custom runs any program that listens on PORT", async () => {
    const { driver, code } = harness();
    const program = `#!/usr/bin/env node
      require("node:http").createServer((q, r) => r.end([process.env.SECRET, process.argv[2], process.cwd()].join("|")))
        .listen(Number(process.env.PORT), "0.0.0.0");`;
    const digest = await code(program, "server", true);
    const sandbox = await prepare(driver, poolOf("custom"));
    const over = { entry: null, command: ["./server", "an 'odd' argument"], env: { SECRET: "it's $HOME\n" } };
    const ready = await driver.assign(sandbox.id, assignmentOf(digest, over));
    assert.ok(ready.ok, ready.ok ? "" : ready.failure.message);
    assert.deepEqual([ready.signature, ready.done], ["program", "response"]);
    const { body } = await get(driver, sandbox.id);
    assert.ok(body.startsWith("it's $HOME\n|an 'odd' argument|/"), body);
    await driver.stopSandbox(sandbox.id, 0);
  });

  it("a custom program that is not there is the function's failure", async () => {
    const { driver, code } = harness();
    const sandbox = await prepare(driver, poolOf("custom"));
    const digest = await code("", "other");
    const answer = await driver.assign(sandbox.id, assignmentOf(digest, { entry: null, command: ["./server"] }));
    assert.ok(!answer.ok);
    assert.equal(answer.failure.fault, "function");
    await sandbox.exited;
  });
}

function oneOffTests(it: It, harness: () => Harness): void {
  const run = (script: string, over: { timeoutMs?: number; outputBytes?: number } = {}) =>
    harness().driver.run({
      pool: poolOf("node26"),
      argv: ["/usr/bin/node", "-e", script],
      env: { GIVEN: "yes" },
      mounts: [],
      timeoutMs: 20_000,
      outputBytes: 1024,
      ...over,
    });

  it("a program that is run to its end gives its output", async () => {
    const result = await run(`process.stdout.write(process.env.GIVEN); process.stderr.write("aside")`);
    assert.ok(result.ok, result.ok ? "" : result.failure.message);
    assert.deepEqual([Buffer.from(result.stdout).toString(), result.stderr], ["yes", "aside"]);
  });

  it("a program that fails is told with its code and its stderr", async () => {
    const result = await run(`process.stderr.write("why"); process.exitCode = 7`);
    assert.ok(!result.ok);
    assert.match(result.failure.message, /code 7/);
    assert.equal(result.stderr, "why");
  });

  it("a program that takes too long is ended", async () => {
    const result = await run("setInterval(() => {}, 1000)", { timeoutMs: 300 });
    assert.ok(!result.ok);
    assert.match(result.failure.message, /longer than 0.3 s/);
  });

  it("a program that says too much fails", async () => {
    const result = await run(`process.stdout.write("x".repeat(300000))`);
    assert.ok(!result.ok);
    assert.match(result.failure.message, /more than 1024 bytes/);
  });
}
