// What is held of runtime custom: a program of its author's own, seen through the driver that runs it.

import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, describe, it } from "node:test";
import { assertLost, assignmentOf, poolOf, prepare, type Started } from "#sandbox/suite.ts";
import type { Assignment, Failed, Ready, SandboxDriver } from "#sandbox/door.ts";
import { ClientConnection, header, headersOf, type ClientRequest, type ClientResponse } from "./client.ts";
import { Output } from "./instance.ts";
import { handlersFolder } from "./support.ts";

const MiB = 1024 * 1024;

interface Program extends Started {
  readonly answer: Ready | Failed;
  readonly output: Output;
  connect(): ClientConnection;
  request(request: ClientRequest): Promise<ClientResponse>;
}

/** `store` makes a folder of code known to the driver, and answers its digest. */
export function programSuite(driver: SandboxDriver, store: (folder: string) => Promise<string>): void {
  async function start(t: Ends, over: Partial<Assignment> = {}): Promise<Program> {
    const digest = await store(path.join(handlersFolder, "custom"));
    const started = await prepare(driver, poolOf("custom"));
    t.after(() => driver.stopSandbox(started.id, 0));
    const output = capture(t, driver, started);
    const assignment = { entry: null, command: ["./serve.sh", "a b", "$HOME"], concurrency: 10, ...over };
    const answer = await driver.assign(started.id, assignmentOf(digest, assignment));
    const connect = (): ClientConnection => {
      const connection = new ClientConnection(driver.connect(started.id) as net.Socket);
      t.after(() => connection.close());
      return connection;
    };
    return { ...started, answer, output, connect, request: (request) => connect().request(request) };
  }

  async function serving(t: Ends, over: Partial<Assignment> = {}): Promise<Program> {
    const program = await start(t, over);
    assert.ok(program.answer.ok, program.answer.ok ? "" : program.answer.failure.message);
    return program;
  }

  describe("custom: requests", { concurrency: 1 }, () => requests(serving));
  describe("custom: life", { concurrency: 2 }, () => life(driver, start, serving));
}

/** Who says when something has to end: a test, or a part of the suite. */
type Ends = { after(end: () => void | Promise<void>): void };
type Start = (t: Ends, over?: Partial<Assignment>) => Promise<Program>;

function requests(start: Start): void {
  const ends: (() => void | Promise<void>)[] = [];
  after(async () => {
    for (const end of ends.toReversed()) await end();
  });
  let program: Promise<Program> | undefined;
  /** One for all of them: each leaves it as it was. */
  const serving = (): Promise<Program> =>
    (program ??= start(
      { after: (end) => void ends.push(end) },
      { port: 3456, env: { SECRET: `it's "$HOME"\n\`id\` \\` } },
    ));

  it("reach the program as they are, and its answers come back", async () => {
    const program = await serving();
    const headers = [["content-type", "text/plain"]] as const;
    const answer = await program.request({ method: "PUT", target: "/echo", headers, body: "héllo" });
    assert.deepEqual([answer.status, answer.text], [200, "héllo"]);
    assert.deepEqual([header(answer, "content-type"), header(answer, "x-method")], ["text/plain", "PUT"]);
    assert.equal(header(answer, "ebb-done"), undefined);
    const cookies = await program.request({ target: "/cookies" });
    assert.equal(cookies.status, 201);
    assert.deepEqual(headersOf(cookies, "set-cookie"), ["a=1", "b=2"]);
    assert.equal((await program.request({ target: "/nowhere" })).status, 404);
  });

  it("stream both ways at once", async () => {
    const connection = (await serving()).connect();
    connection.socket.write(connection.head({ method: "POST", target: "/pipe" }, "transfer-encoding: chunked\r\n"));
    connection.socket.write("3\r\nabc\r\n");
    await connection.responseHead();
    assert.equal((await connection.chunk())?.toString(), "ABC");
    connection.socket.write("3\r\ndef\r\n0\r\n\r\n");
    assert.equal((await connection.chunk())?.toString(), "DEF");
    assert.equal((await connection.chunk())?.length, 0);
  });

  it("carry big bodies, and many at a time", async () => {
    const program = await serving();
    const bytes = Buffer.alloc(
      2 * MiB,
      Uint8Array.from({ length: 251 }, (_, index) => index),
    );
    const [echoed, ...large] = await Promise.all([
      program.request({ target: "/echo", body: bytes }),
      ...[4, 5, 6].map((mib) => program.request({ target: `/large?${mib * MiB}` })),
    ]);
    assert.ok(echoed.body.equals(bytes));
    assert.deepEqual(
      large.map(({ body }) => body.length / MiB),
      [4, 5, 6],
    );
  });

  it("find the environment of the assignment, PORT, and nothing of the daemon's or of the way it was started", async () => {
    const program = await serving();
    assert.equal((await program.request({ target: "/env?PORT" })).text, "3456");
    assert.equal((await program.request({ target: "/env?SECRET" })).text, `it's "$HOME"\n\`id\` \\`);
    const names = (await program.request({ target: "/names" })).text.split(" ");
    // LC_CTYPE is Python's own doing.
    assert.deepEqual(
      names.filter((name) => !["_", "LC_CTYPE", "SHLVL"].includes(name)),
      ["HOME", "LANG", "PATH", "PORT", "PWD", "SECRET", "TZ"],
    );
  });
}

function life(driver: SandboxDriver, start: Start, serving: Start): void {
  it("is ready when it listens, with its code as its folder and its words as it was told them, and its output is read as it is: no marks, no frames, no invocation", async (t) => {
    const program = await serving(t);
    const { answer, output } = program;
    assert.ok(answer.ok);
    assert.deepEqual([answer.signature, answer.done, answer.handler], ["program", "response", null]);
    await output.until(({ stdout }) => stdout.includes("starting with 2 arguments in /var/task\n"));
    await program.request({ target: "/print?text" });
    await program.output.until(({ stdout, stderr }) => stdout.includes("out text\n") && stderr.includes("err text\n"));
    assert.ok(!(program.output.stdout + program.output.stderr).includes("\u001e"));
    const source = driver.output(program.id);
    assert.ok(source.kind === "fifo" && source.frames === null);
  });

  it("is stopped by SIGTERM: what runs is finished, and it says its own last words", async (t) => {
    const program = await serving(t);
    const answer = program.request({ target: "/wait" });
    await program.output.until(({ stdout }) => stdout.includes("waiting\n"));
    await driver.stopSandbox(program.id, 10_000);
    assert.equal((await answer).text, "waited");
    assert.deepEqual((await program.exited).reason, "stopped");
    await program.output.until(({ stdout }) => stdout.endsWith("stopping\nstopped\n"));
  });

  it("that exits is gone, with its code, and so are its connections", async (t) => {
    const program = await serving(t);
    const connection = program.connect();
    connection.send({ target: "/exit" });
    const exit = await program.exited;
    assert.deepEqual([exit.reason, exit.code], ["exited", 7]);
    await connection.until(() => connection.ended);
    await assertLost(driver.connect(program.id));
    assert.equal(program.exits.length, 1);
  });

  it("that exits before it listens is its author's failure, in words", async (t) => {
    const { answer, output } = await start(t, { command: ["./serve.sh", "exits"] });
    assert.ok(!answer.ok);
    assert.equal(answer.failure.fault, "function");
    assert.match(answer.failure.message, /ended before it could serve.*code 3/);
    await output.until(({ stdout }) => stdout.includes("starting"));
  });

  it("that is not there is its author's failure, and the shell's words are in its output", async (t) => {
    const { answer, output } = await start(t, { command: ["./nowhere"] });
    assert.ok(!answer.ok);
    assert.match(answer.failure.message, /code 127/);
    await output.until(({ stderr }) => stderr.includes("./nowhere: not found"));
  });
}

/** Opened for both, so that opening never waits and the writer's going is not an end. */
function capture(t: Ends, driver: SandboxDriver, { id }: Started): Output {
  const source = driver.output(id);
  const output = new Output();
  assert.ok(source.kind === "fifo", "the driver's output is read from FIFOs");
  for (const name of ["stdout", "stderr"] as const) {
    const fd = fs.openSync(source[name], fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
    const reader = new net.Socket({ fd, writable: false });
    reader.setEncoding("utf8").on("data", (text: string) => output.add(name, text));
    t.after(() => void reader.destroy());
  }
  return output;
}
