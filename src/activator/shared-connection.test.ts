// The connection that invocations of an instance share: who goes by it, what comes of frames, and what of nonsense.

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import test, { afterEach, beforeEach } from "node:test";
import fc from "fast-check";
import { bodyOf, codeOf, testRevision, until, wholeBodyOf, World, type CallUnderway } from "./world.testing.ts";

let world: World;
beforeEach(() => {
  world = new World();
  world.shares = true;
});
afterEach(() => world.stop());

interface Asked {
  readonly number: number;
  readonly head: string;
}

/** A runtime that shares: what it is asked, by which way, and its words. */
class Runtime {
  /** Requests by frames, in their order; an empty head: nobody wants it any more. */
  readonly framed: Asked[] = [];
  /** Requests by connections of their own, and where to answer them. */
  readonly plain: { head: string; socket: Socket }[] = [];
  shared: Socket | null = null;
  connections = 0;
  accepts = "HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: ebb-frames\r\n\r\n";

  readonly serve = (socket: Socket): void => {
    this.connections++;
    let bytes: Buffer = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("end", () => socket.end());
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (this.shared === socket) bytes = this.#frames(bytes);
      for (let end = bytes.indexOf("\r\n\r\n"); end >= 0 && this.shared !== socket; end = bytes.indexOf("\r\n\r\n")) {
        const head = bytes.toString("latin1", 0, end);
        bytes = bytes.subarray(end + 4);
        if (!head.startsWith("GET /ebb/v1/shared ")) this.plain.push({ head, socket });
        else {
          this.shared = socket;
          socket.write(this.accepts);
        }
      }
    });
  };

  #frames(bytes: Buffer): Buffer {
    let at = 0;
    while (bytes.length - at >= 8 && bytes.length - at >= 8 + bytes.readUInt32LE(at)) {
      const end = at + 8 + bytes.readUInt32LE(at);
      this.framed.push({ number: bytes.readUInt32LE(at + 4), head: bytes.toString("latin1", at + 8, end) });
      at = end;
    }
    return bytes.subarray(at);
  }

  answer(number: number, text: string | Buffer): void {
    this.shared!.write(frame(number, text));
  }

  /** The number by which this call came. */
  numberOf(call: CallUnderway): number | undefined {
    return this.framed.find(({ head }) => head.includes(call.id))?.number;
  }
}

function frame(number: number, payload: string | Buffer): Buffer {
  const bytes = Buffer.from(payload);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(bytes.length, 0);
  head.writeUInt32LE(number, 4);
  return Buffer.concat([head, bytes]);
}

const ok = (body: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\nebb-done: 1\r\n\r\n${body}`;

/** An instance with something under way by a connection of its own, so that what comes next is shared. */
async function busy(runtime = new Runtime()) {
  const revision = world.deploy(testRevision({ concurrency: 100 }));
  const instance = await world.startRaw(revision, runtime.serve, "told");
  const first = world.call();
  await until(() => runtime.plain.length === 1, "the first has come");
  const opens = world.call();
  await until(() => runtime.shared !== null && runtime.plain.length === 2, "the shared connection is open");
  return { runtime, instance, first, opens };
}

async function shared(runtime: Runtime, options: Parameters<World["call"]>[0] = {}): Promise<[CallUnderway, number]> {
  // The word that it may is read in a turn of its own.
  for (;;) {
    const [call, seen] = [world.call(options), runtime.plain.length];
    await until(() => runtime.numberOf(call) !== undefined || runtime.plain.length > seen, "it has come");
    const number = runtime.numberOf(call);
    if (number !== undefined) return [call, number];
  }
}

test("what is alone goes by a connection of its own, as does what has a body that is still to come or may leave; what comes beside it shares one", async () => {
  const { runtime, first } = await busy();
  const [call, number] = await shared(runtime);
  const plain = runtime.plain.length;
  const posted = world.call({ method: "POST", body: bodyOf(["x"], 1) });
  const upgrading = world.call({ upgrade: true, headers: ["host", "h", "upgrade", "websocket"] });
  await until(() => runtime.plain.length === plain + 2, "both have come");
  runtime.answer(number, ok("framed"));
  assert.equal((await call.answer).body, "framed");
  runtime.plain[0]!.socket.write(ok("plain"));
  assert.equal((await first.answer).body, "plain");
  assert.deepEqual(
    [call, first].map(({ id }) => [world.ended(id)?.outcome, world.ended(id)?.status]),
    [call, first].map(() => ["ok", 200]),
  );
  posted.invocation.abort();
  upgrading.invocation.abort();
});

test("a short body that is here whole goes in the frame with its head, and counts; a longer one by a connection of its own", async () => {
  const { runtime } = await busy();
  const text = "a body\r\n\r\nof\0 bytes \xff";
  const [call, number] = await shared(runtime, { method: "POST", body: wholeBodyOf(text) });
  const { head } = runtime.framed.find((asked) => asked.number === number && asked.head !== "")!;
  assert.match(head, /^POST .*\r\ncontent-length: 21\r\n/s);
  assert.equal(head.slice(head.indexOf("\r\n\r\n") + 4), text);
  runtime.answer(number, ok("taken"));
  assert.equal((await call.answer).body, "taken");
  assert.equal(world.ended(call.id)?.bytesIn, text.length);
  const plain = runtime.plain.length;
  world.call({ method: "POST", body: wholeBodyOf("x".repeat(20_000)) });
  await until(() => runtime.plain.length === plain + 1, "it has come");
  assert.match(runtime.plain[plain]!.head, /content-length: 20000/);
});

test("a head that is long goes by a connection of its own: no client may hold up, or break, what others share", async () => {
  const { runtime } = await busy();
  await shared(runtime);
  const plain = runtime.plain.length;
  world.call({ headers: ["host", "h", "x-long", "x".repeat(20_000)] });
  await until(() => runtime.plain.length === plain + 1, "it has come");
  assert.ok(runtime.plain[plain]!.head.includes("x".repeat(20_000)));
});

test("where only one may run, and where the runtime cannot, nothing is shared", async () => {
  for (const [shares, concurrency] of [
    [false, 100],
    [true, 1],
  ] as const) {
    world.shares = shares;
    const runtime = new Runtime();
    const workload = `w${concurrency}`;
    const revision = world.deploy(testRevision({ concurrency }, 1, workload));
    await world.startRaw(revision, runtime.serve, "told");
    const calls = [world.call({ workload }), world.call({ workload })];
    for (const [at, call] of calls.entries()) {
      await until(() => runtime.plain.length > at, "it has come");
      runtime.plain[at]!.socket.write(ok("plain"));
      assert.equal((await call.answer).body, "plain");
    }
    assert.equal(runtime.shared, null);
  }
});

test("frames of one turn are one write, and each answer finds its call in whichever order they come", async () => {
  const { runtime } = await busy();
  await shared(runtime);
  const writes: number[] = [];
  runtime.shared!.on("data", (chunk: Buffer) => void writes.push(chunk.length));
  const calls = Array.from({ length: 20 }, () => world.call());
  await until(() => calls.every((call) => runtime.numberOf(call) !== undefined), "all have come");
  assert.equal(writes.length, 1);
  const answers = calls.map((call, at) => frame(runtime.numberOf(call)!, ok(`answer ${at}`)));
  runtime.shared!.write(Buffer.concat(answers.toReversed()));
  for (const [at, call] of calls.entries()) assert.equal((await call.answer).body, `answer ${at}`);
});

test("answers mean the same however their bytes are cut", async () => {
  const { runtime } = await busy();
  await shared(runtime);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.string({ maxLength: 300 }), fc.boolean()), { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat(400), { minLength: 1, maxLength: 8 }),
      async (answers, cuts) => {
        const calls = await Promise.all(answers.map(async () => await shared(runtime)));
        const bytes = Buffer.concat(
          answers.map(([text, chunked], at) => {
            const body = Buffer.from(text);
            const length = chunked ? "transfer-encoding: chunked" : `content-length: ${body.length}`;
            const head = `HTTP/1.1 200 OK\r\n${length}\r\nebb-done: 1\r\n\r\n`;
            const chunk = body.length === 0 ? "" : `${body.length.toString(16)}\r\n`;
            const parts = chunked ? [chunk, body, chunk === "" ? "0\r\n\r\n" : "\r\n0\r\n\r\n"] : [body];
            return frame(calls[at]![1], Buffer.concat([head, ...parts].map((part) => Buffer.from(part))));
          }),
        );
        let from = 0;
        for (const cut of cuts) {
          runtime.shared!.write(bytes.subarray(from, from + cut));
          from += cut;
          await new Promise((resolve) => setImmediate(resolve));
        }
        runtime.shared!.write(bytes.subarray(from));
        for (const [at, [call]] of calls.entries())
          assert.equal((await call.answer).body, Buffer.from(answers[at]![0]).toString("latin1"));
      },
    ),
    { numRuns: 60 },
  );
});

test("whatever a runtime sends, each call ends once", async () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc
      .tuple(fc.nat(4), fc.constantFrom("", ok("whole"), "HTTP/1.1 200 OK\r\n\r\n", "?"))
      .map(([number, text]) => frame(number, text)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      await world.stop();
      world = new World();
      world.shares = true;
      const { runtime, instance } = await busy();
      const calls = [(await shared(runtime))[0], (await shared(runtime, { method: "POST" }))[0]];
      const socket = runtime.shared!;
      for (const bytes of pieces) socket.write(bytes);
      socket.end();
      await until(() => socket.closed, "it has ended");
      world.activator.gone(instance.id, { reason: "exited", code: 1, message: "it exited with code 1." });
      for (const call of calls) {
        await call.answer;
        assert.ok(world.ended(call.id));
      }
    }),
    { numRuns: 100 },
  );
});

test("an answer in pieces is fetched by a connection of its own, and the next goes by one until an answer is whole again", async () => {
  const { runtime } = await busy();
  const [call, number] = await shared(runtime);
  let plain = runtime.plain.length;
  runtime.answer(number, "");
  await until(() => runtime.plain.length === plain + 1, "it is fetched");
  const { head, socket } = runtime.plain[plain]!;
  assert.match(head, new RegExp(`^GET /ebb/v1/answers/${call.id} HTTP/1.1\r\n`));
  socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
  await call.sink.headCame.promise;
  plain = runtime.plain.length;
  const second = world.call();
  await until(() => runtime.plain.length === plain + 1, "the second goes by one of its own");
  socket.write("3\r\ntwo\r\n0\r\nebb-done: 1\r\n\r\n");
  assert.equal((await call.answer).body, "onetwo");
  assert.deepEqual([world.ended(call.id)?.outcome, world.ended(call.id)?.bytesOut], ["ok", 6]);
  runtime.plain[plain]!.socket.write(ok("whole"));
  assert.equal((await second.answer).body, "whole");
  await shared(runtime);
});

test("answers that are fetched one after the other take the connection that is free, and not one more each time", async () => {
  const { runtime } = await busy();
  await shared(runtime);
  const { connections } = runtime;
  for (let time = 0; time < 10; time++) {
    const [call, number] = await shared(runtime);
    const plain = runtime.plain.length;
    runtime.answer(number, "");
    await until(() => runtime.plain.length === plain + 1, "it is fetched");
    runtime.plain[plain]!.socket.write(ok("fetched"));
    assert.equal((await call.answer).body, "fetched");
  }
  assert.ok(runtime.connections <= connections + 2, `${runtime.connections - connections} more connections`);
});

test("a call that is fetched is not run twice: where its connection breaks it has failed", async () => {
  const { runtime } = await busy();
  const [call, number] = await shared(runtime);
  const plain = runtime.plain.length;
  runtime.answer(number, "");
  await until(() => runtime.plain.length === plain + 1, "it is fetched");
  runtime.plain[plain]!.socket.destroy();
  assert.equal(codeOf(await call.answer), "bad_response");
  assert.equal(runtime.framed.filter(({ head }) => head.includes(call.id)).length, 1);
});

test("a caller that goes is told to the runtime, and the number serves nobody else until its frame has come", async () => {
  const { runtime } = await busy();
  const [call, number] = await shared(runtime);
  call.invocation.abort();
  await until(() => runtime.framed.at(-1)?.head === "", "the runtime knows");
  assert.equal(runtime.framed.at(-1)?.number, number);
  const [second, other] = await shared(runtime);
  assert.notEqual(other, number);
  // Its answer was on the way: nobody takes it for anybody else's.
  runtime.answer(number, ok("late"));
  runtime.answer(other, ok("second"));
  assert.equal((await second.answer).body, "second");
  const [, third] = await shared(runtime);
  assert.ok(third === number || third === other, "both are free again");
});

test("a caller that goes before its answer was fetched is told to the runtime where that still has it", async () => {
  const { runtime } = await busy();
  const [call, number] = await shared(runtime);
  const plain = runtime.plain.length;
  runtime.answer(number, "");
  // Its connection is there and has said nothing: the runtime has not taken the answer up.
  await until(() => runtime.plain.length > plain, "it is fetched");
  call.invocation.abort();
  await until(() => runtime.framed.at(-1)?.head === "", "the runtime knows");
  assert.equal(runtime.framed.at(-1)?.number, number);
  // The next goes by one of its own, as after any answer in pieces; a whole one brings back the shared one, and the number.
  const next = world.call();
  await until(() => runtime.plain.length > plain + 1, "the next has come");
  runtime.plain[plain + 1]!.socket.write(ok("whole"));
  await next.answer;
  assert.equal((await shared(runtime))[1], number);
});

test("an answer that is not HTTP, or is not whole, fails its own call alone", async () => {
  const { runtime } = await busy();
  for (const answer of [
    "nonsense\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nlong",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n",
    "HTTP/1.1 101 \r\nupgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nup to its end",
  ]) {
    const [call, number] = await shared(runtime);
    const [other, its] = await shared(runtime);
    runtime.answer(number, answer);
    runtime.answer(its, ok("other"));
    assert.equal(codeOf(await call.answer), "bad_response", answer);
    assert.equal((await other.answer).body, "other", answer);
    // Its head may have said that it is done: the runtime is asked to say it again.
    await until(() => runtime.framed.at(-1)?.head === "", "the runtime hears of it");
    assert.equal(runtime.framed.at(-1)?.number, number);
  }
});

test("a frame that answers nothing, or is too long, ends the connection: those on it fail, and nothing is shared again", async () => {
  for (const nonsense of [frame(4_000, ok("whose?")), Buffer.from([0, 0, 0, 255, 0, 0, 0, 0])]) {
    await world.stop();
    world = new World();
    world.shares = true;
    const { runtime } = await busy();
    const [call] = await shared(runtime);
    runtime.shared!.write(nonsense);
    assert.equal(codeOf(await call.answer), "bad_response");
    const plain = runtime.plain.length;
    world.call();
    await until(() => runtime.plain.length === plain + 1, "it goes by one of its own");
  }
});

test("a connection that ends: what may be tried again is, what may not has failed, and another is opened", async () => {
  const { runtime } = await busy();
  const [get] = await shared(runtime);
  const [post] = await shared(runtime, { method: "POST", body: wholeBodyOf("x") });
  const plain = runtime.plain.length;
  runtime.shared!.destroy();
  runtime.shared = null;
  await until(() => runtime.plain.length > plain, "it is tried again");
  assert.ok(runtime.plain[plain]!.head.includes(get.id));
  runtime.plain[plain]!.socket.write(ok("again"));
  assert.equal((await get.answer).body, "again");
  assert.equal(codeOf(await post.answer), "bad_response");
  await shared(runtime);
});

test("a runtime that does not share after all is asked no more", async () => {
  const runtime = new Runtime();
  runtime.accepts = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
  await busy(runtime);
  await until(() => runtime.shared!.destroyed, "it is given up");
  const { connections } = runtime;
  const plain = runtime.plain.length;
  for (let more = 1; more <= 3; more++) {
    world.call();
    await until(() => runtime.plain.length === plain + more, "it goes by one of its own");
  }
  assert.equal(runtime.connections, connections + 3);
});
