// One assignment for life, a check, a drain, and the ways to die.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import { gunzipSync } from "node:zlib";
import { newId } from "./instance.ts";
import {
  itOf,
  type Runtime,
  assignmentOf,
  codeOf,
  failing,
  handlersFolder,
  pooled,
  serving,
  shared,
} from "./support.ts";

/** Code with something registered for its end, and with threads that run until and beyond it. */
const untidy: Record<string, Record<string, string>> = {
  node: {
    "index.mjs": `import { Worker } from "node:worker_threads";
      const worker = new Worker("setInterval(() => {}, 0)", { eval: true });
      await new Promise((resolve) => worker.once("online", resolve));
      process.on("exit", () => console.log("bye"));
      export const handle = () => "served";`,
  },
  python: {
    "main.py": `
import atexit, threading, time
class Slow:
    def __del__(self):
        time.sleep(0.02)
slow = [Slow() for _ in range(5)]
def work():
    while True:
        time.sleep(0)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
atexit.register(print, "bye")
def handle(event, context):
    return "served"
`,
  },
};

/** Lengths of name and contents, name, contents: CONTRACT.md, 2. */
function namesIn(bytes: Buffer): string[] {
  const names: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const nameEnd = at + 6 + bytes.readUInt16BE(at);
    names.push(bytes.toString("utf8", at + 6, nameEnd));
    at = nameEnd + bytes.readUInt32BE(at + 2);
  }
  return names;
}

export function lifecycleSuite(runtime: Runtime): void {
  const it = itOf(runtime);
  const code = path.join(handlersFolder, runtime.language, "behaviour");

  describe(`${runtime.name}: one assignment`, { concurrency: 1 }, () => {
    const plain = shared(runtime, code);

    it("says what it recognised, means the same when it is given that back, and ends idle with 0 at SIGTERM, connections or not", async (t) => {
      const { ready } = await plain();
      assert.ok(ready.phases.bootMs > 0 && ready.phases.importMs > 0);
      const { entry, handler, signature } = ready;
      const again = await serving(t, runtime, code, { entry, handler, signature });
      assert.deepEqual({ ...again.ready, phases: null }, { ...ready, phases: null });
      const connection = await again.connect();
      assert.equal((await connection.request({ target: "/none" })).status, 204);
      again.launched.signal("SIGTERM");
      assert.deepEqual(await again.launched.exited, { code: 0, signal: null });
    });

    it("happens once: a second gets 410, and a client's request to that path reaches the function", async () => {
      const instance = await plain();
      const connection = await instance.connect();
      const body = JSON.stringify(assignmentOf("/nowhere"));
      connection.socket.write(`POST /ebb/v1/assign HTTP/1.1\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      assert.equal((await connection.response()).status, 410);
      const users = await instance.request({ method: "POST", target: "/ebb/v1/assign", body: "mine" });
      assert.equal(users.status, 404);
      assert.equal(users.text, "not found");
    });
  });

  describe(`${runtime.name}: assignment`, () => {
    it("comes before the requests that wait already", async (t) => {
      const instance = await pooled(t, runtime);
      const early = await instance.connect();
      early.send({ target: "/echo", body: "early" });
      const answer = await instance.assign(assignmentOf(code));
      assert.ok("ready" in answer);
      assert.equal((await early.response()).text, "early");
    });

    it("may be announced: its body comes long after its head", async (t) => {
      const instance = await pooled(t, runtime);
      await instance.announce();
      // It listens, has read the head, and warms up; whatever it is at when the rest comes, it takes it.
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => void setImmediate(resolve));
      const early = await instance.connect();
      early.send({ target: "/echo", body: "early" });
      const answer = await instance.assign(assignmentOf(code));
      assert.ok("ready" in answer);
      assert.equal((await early.response()).text, "early");
    });

    it("that is announced and never comes ends with its connection", async (t) => {
      const instance = await pooled(t, runtime);
      await instance.announce();
      instance.control!.destroy();
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
    });

    it("as a check answers, tells what it compiled, and exits 0", async (t) => {
      const checked = await serving(t, runtime, code, { check: true, cache: "make" });
      assert.deepEqual(await checked.launched.exited, { code: 0, signal: null });
      const packed = Buffer.concat((await checked.cache()).map((piece) => Buffer.from(piece, "base64")));
      const names = namesIn(gunzipSync(packed));
      const shape =
        runtime.language === "node" ? /^\.ebb\/cache\/v\d[^/]*\/[0-9a-f]+$/ : /^__pycache__\/\w+\.cpython-\d+\.pyc$/;
      assert.ok(names.length > 0 && names.every((name) => shape.test(name)), names.join(" "));
    });

    it("as a check of what fails exits 1", async (t) => {
      const failed = await failing(t, runtime, code, { handler: "nobody", check: true });
      assert.match(failed.failed.message, /no .*function "nobody"/);
      assert.deepEqual(await failed.launched.exited, { code: 1, signal: null });
    });

    it("ends with its connection: without its daemon nothing goes on", async (t) => {
      const instance = await serving(t, runtime, code);
      const busy = await instance.connect();
      busy.send({ target: "/hang" });
      await instance.output.until((output) => output.stdout.includes("hanging"));
      instance.control?.destroy();
      assert.equal((await instance.launched.exited).code, 0);
    });

    it("that never comes is no reason to stay either", async (t) => {
      const instance = await pooled(t, runtime);
      instance.control?.destroy();
      assert.equal((await instance.launched.exited).code, 0);
    });
  });

  describe(`${runtime.name}: SIGTERM`, () => {
    it("ends a process without code at once", async (t) => {
      const instance = await pooled(t, runtime);
      // Its first answer shows that it is up.
      instance.control?.write("GET / HTTP/1.1\r\n\r\n");
      await new Promise((resolve) => instance.control?.once("data", resolve));
      instance.launched.signal("SIGTERM");
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
    });

    it("runs what the code registered for its end, whatever threads still run", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, untidy[runtime.language] ?? {}));
      assert.equal((await instance.request({})).status, 200);
      instance.launched.signal("SIGTERM");
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null }, instance.output.stderr);
      await instance.output.until((output) => output.stdout.includes("bye"));
    });

    for (const concurrency of [1, 4]) {
      it(`lets finish what runs, and then ends with 0 (concurrency ${concurrency})`, async (t) => {
        const instance = await serving(t, runtime, code, { concurrency });
        const connection = await instance.connect();
        connection.socket.write(connection.head({ method: "POST", target: "/pipe" }, "transfer-encoding: chunked\r\n"));
        connection.socket.write("4\r\nhalf\r\n");
        await connection.responseHead();
        assert.equal((await connection.chunk())?.toString(), "HALF");
        // An interrupt is the terminal's affair.
        instance.launched.signal("SIGINT");
        instance.launched.signal("SIGTERM");
        connection.socket.write("5\r\nwhole\r\n0\r\n\r\n");
        assert.equal((await connection.chunk())?.toString(), "WHOLE");
        assert.equal((await connection.chunk())?.length, 0);
        assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
      });
    }
  });

  describe(`${runtime.name}: a death of its own`, () => {
    it("shows the error that nobody caught, and exits 1", async (t) => {
      const instance = await serving(t, runtime, code);
      const connection = await instance.connect();
      const id = newId();
      connection.send({ target: "/die", id });
      assert.equal((await instance.launched.exited).code, 1);
      await instance.output.until((output) => output.stderr.includes("boom outside"));
      assert.doesNotMatch(instance.output.stderr, new RegExp(`- ${id}`));
    });

    it("is with the status that the function exits with", async (t) => {
      const instance = await serving(t, runtime, code);
      const connection = await instance.connect();
      connection.send({ target: "/exit" });
      assert.equal((await instance.launched.exited).code, 7);
    });
  });
}
