// The life of invocations, against real servers on Unix sockets and a fleet that only writes down what it is asked.

import assert from "node:assert/strict";
import { once } from "node:events";
import test, { afterEach, beforeEach } from "node:test";
import { EbbError } from "#model/errors.ts";
import { settle } from "#lib/virtual-clock.ts";
import { bodyOf, codeOf, testRevision, until, World } from "./world.testing.ts";

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

const end = (id: string) => world.ended(id);

test("a call waits for an instance, runs as soon as it is ready, and says what it waited for", async () => {
  const revision = world.deploy(testRevision());
  const call = world.call();
  assert.deepEqual(
    world.loads.map(({ waiting, ready }) => [waiting, ready]),
    [[1, 0]],
    "reported at once",
  );
  await world.start(revision, (request, response) => response.end(`hello ${request.url}`));
  const answer = await call.answer;
  assert.equal(answer.body, "hello /");
  assert.equal(answer.head!.status, 200);
  const begun = world.marks.begun.get(call.id)!;
  assert.equal(begun.cold, true);
  assert.ok(begun.startUs > 0 && begun.startUs <= 5_000);
  assert.deepEqual(end(call.id), {
    outcome: "ok",
    status: 200,
    bytesIn: 0,
    bytesOut: 7,
  });
  const warm = world.call();
  await warm.answer;
  assert.equal(world.marks.begun.get(warm.id)!.cold, false);
});

test("begin is marked before the hand-over and end before the answer's last byte", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (_request, response) => {
    world.log.push("handler");
    response.end("x");
  });
  const { id, answer } = world.call();
  await answer;
  assert.deepEqual(world.log, [`begin ${id}`, "handler", `end ${id} ok 200`, `answer ${id}`]);
});

test("at concurrency 1 the second waits for the first, in order of arrival", async () => {
  const revision = world.deploy(testRevision());
  const order: string[] = [];
  await world.start(revision, (request, response) => {
    order.push(request.url!);
    setImmediate(() => response.end());
  });
  const calls = ["/1", "/2", "/3"].map((target) => world.call({ target }));
  assert.equal(world.activator.load(revision).waiting, 2);
  await Promise.all(calls.map((call) => call.answer));
  assert.deepEqual(order, ["/1", "/2", "/3"]);
});

test("a body goes in and out, with and without a length, and is counted", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (request, response) => request.pipe(response));
  const chunked = world.call({ method: "POST", body: bodyOf(["ab", "cde"]) });
  assert.equal((await chunked.answer).body, "abcde");
  const plain = world.call({ method: "POST", body: bodyOf(["ab", "cde"], 5) });
  assert.equal((await plain.answer).body, "abcde");
  for (const { id } of [chunked, plain]) assert.deepEqual([end(id)!.bytesIn, end(id)!.bytesOut], [5, 5]);
});

test("a body that is not as long as it said does not reach the next call", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (request, response) => request.on("data", () => {}).on("end", () => response.end("ok")));
  for (const length of [4, 6]) {
    const { id } = world.call({ method: "POST", body: bodyOf(["abcde"], length) });
    await until(() => end(id) !== undefined, "ended");
    assert.equal(end(id)!.outcome, "client_gone");
  }
  assert.equal((await world.call().answer).body, "ok");
});

test("back-pressure holds the instance's answer until the caller reads on", async () => {
  const revision = world.deploy(testRevision());
  let written = 0;
  await world.start(revision, (_request, response) => {
    const chunk = Buffer.alloc(64 * 1024);
    const write = (): void => {
      while (written < 200) {
        written++;
        if (!response.write(chunk)) return void response.once("drain", write);
      }
      response.end();
    };
    write();
  });
  const call = world.call();
  call.sink.full = true;
  await call.sink.headCame.promise;
  await until(() => call.sink.bytes > 0, "first bytes");
  for (let turn = 0; turn < 200; turn++) await settle();
  assert.ok(call.sink.bytes <= 128 * 1024, `${call.sink.bytes} bytes came through a closed door`);
  call.sink.full = false;
  call.invocation.drained();
  await call.answer;
  assert.equal(call.sink.bytes, 200 * 64 * 1024);
});

test("the workload's project may be over its rate, the workload unknown, the disk full: each is told and marked", async () => {
  const revision = world.deploy(testRevision());
  assert.equal(codeOf(await world.call({ workload: "other" }).answer), "not_found");
  world.admitProblem = new EbbError("rate_limited", "too fast");
  const limited = world.call();
  assert.equal(codeOf(await limited.answer), "rate_limited");
  assert.deepEqual([end(limited.id)!.outcome, end(limited.id)!.status], ["refused", 429]);
  world.admitProblem = null;
  await world.start(revision, (_request, response) => response.end("ok"));
  world.beginProblem = new EbbError("storage_full", "no room");
  assert.equal(codeOf(await world.call().answer), "storage_full");
  world.beginProblem = null;
  assert.equal((await world.call().answer).body, "ok", "the slot was given back");
});

test("a 5xx of the function is an error, and goes to the caller as it is", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (_request, response) => response.writeHead(503, { "x-own": "1" }).end("mine"));
  const { id, answer } = world.call();
  assert.equal((await answer).body, "mine");
  assert.deepEqual([end(id)!.outcome, end(id)!.status], ["error", 503]);
});

test("told: the slot stays taken after the answer until the runtime says done", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.start(revision, (_request, response) => response.end("ok"), "told");
  const first = world.call();
  await first.answer;
  assert.equal(world.activator.activeIn(instance.id), 1);
  assert.ok(world.log.includes(`answered ${first.id} 200`));
  const second = world.call();
  assert.equal(world.activator.load(revision).waiting, 1);
  world.activator.done(instance.id, first.id);
  assert.equal(end(first.id)!.outcome, "ok");
  await second.answer;
});

test("told: `ebb-done: 1` in the head ends it with the answer, and is not passed on", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.start(
    revision,
    (_request, response) => response.setHeader("ebb-done", "1").end("ok"),
    "told",
  );
  const { answer, id } = world.call();
  assert.doesNotMatch((await answer).head!.headers.join(), /ebb-done/);
  assert.equal(end(id)!.outcome, "ok");
  assert.equal(world.activator.activeIn(instance.id), 0);
});

test("the caller goes while it waits: its place is free and nothing runs", async () => {
  const revision = world.deploy(testRevision());
  const call = world.call();
  call.invocation.abort();
  assert.equal(world.activator.load(revision).waiting, 0);
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["client_gone", null]);
});

test("told: the caller goes while it runs: the connection is cut, the slot frees when the runtime says done", async () => {
  const revision = world.deploy(testRevision());
  const aborted = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const handler = (_request: unknown, response: import("node:http").ServerResponse): void => {
    arrived.resolve();
    response.on("close", () => aborted.resolve());
  };
  const instance = await world.start(revision, handler, "told");
  const call = world.call();
  await arrived.promise;
  call.invocation.abort();
  await aborted.promise;
  assert.equal(world.activator.activeIn(instance.id), 1);
  world.activator.done(instance.id, call.id);
  assert.equal(end(call.id)!.outcome, "client_gone");
  assert.equal(world.activator.activeIn(instance.id), 0);
});

test("response: the caller goes while it runs: the program's own answer or close is what frees the slot", async () => {
  const revision = world.deploy(testRevision());
  const held = Promise.withResolvers<import("node:http").ServerResponse>();
  const instance = await world.startRaw(revision, (socket) => {
    socket.once("data", () => held.resolve(socket as never));
    socket.on("end", () => {});
  });
  const call = world.call();
  const socket = (await held.promise) as unknown as import("node:net").Socket;
  call.invocation.abort();
  for (let turn = 0; turn < 50; turn++) await settle();
  assert.equal(world.activator.activeIn(instance.id), 1, "it still works");
  socket.destroy();
  await until(() => end(call.id) !== undefined, "ended");
  assert.equal(end(call.id)!.outcome, "client_gone");
});

test("nonsense on the wire: 502, and at concurrency 1 the instance is killed", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.startRaw(revision, (socket) => socket.on("data", () => socket.write("SSH-2.0\r\n\r\n")));
  const call = world.call();
  const answer = await call.answer;
  assert.equal(codeOf(answer), "bad_response");
  assert.equal(end(call.id)!.outcome, "error");
  assert.ok(world.log.includes(`kill ${instance.id}`));
});

test("bytes after an answer never reach the next call", async () => {
  const revision = world.deploy(testRevision({ concurrency: 2 }));
  const sockets: import("node:net").Socket[] = [];
  await world.startRaw(revision, (socket) => {
    sockets.push(socket);
    socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
  });
  assert.equal((await world.call().answer).body, "ok");
  sockets[0]!.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
  await once(sockets[0]!, "end");
  assert.equal((await world.call().answer).body, "ok");
  assert.equal(sockets.length, 2, "the first connection was dropped");
});

test("a kept connection that turns out dead is replaced once, for what may be sent twice alone", async () => {
  const revision = world.deploy(testRevision());
  let requests = 0;
  // Each connection answers once, and breaks on the second request without a word.
  const instance = await world.startRaw(revision, (socket) => {
    let first = true;
    socket.on("data", () => {
      requests++;
      if (first) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else socket.destroy();
      first = false;
    });
  });
  await world.call().answer;
  const again = await world.call().answer;
  assert.equal(again.body, "ok");
  assert.equal(requests, 3);
  const post = world.call({ method: "POST" });
  await until(() => requests === 4, "the POST arrived");
  world.activator.gone(instance.id, { reason: "exited", code: 1, message: "it exited with code 1." });
  assert.equal(codeOf(await post.answer), "instance_exited");
  assert.equal(requests, 4, "a POST may have been done, and is not sent again");
});

test("an answer before the whole body was read ends the connection, not the answer", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (_request, response) => response.writeHead(413).end("no"));
  const body = bodyOf(Array.from({ length: 64 }, () => "x".repeat(64 * 1024)));
  const first = await world.call({ method: "POST", body }).answer;
  assert.deepEqual([first.head!.status, first.body], [413, "no"]);
  assert.equal((await world.call().answer).body, "no");
});

test("a deploy: those who wait go to the new revision, those who run end on the old", async () => {
  const old = world.deploy(testRevision());
  const release = Promise.withResolvers<void>();
  const instance = await world.start(old, (_request, response) => void release.promise.then(() => response.end("old")));
  const running = world.call();
  const waiting = world.call();
  const next = world.deploy(testRevision({}, 2));
  assert.equal(world.activator.release(instance.id), false);
  await world.start(next, (_request, response) => response.end("new"));
  assert.equal((await waiting.answer).body, "new");
  release.resolve();
  assert.equal((await running.answer).body, "old");
  assert.ok(world.log.includes(`idle ${instance.id}`), "the fleet is told when the last has ended");
  assert.equal((await world.call().answer).body, "new");
});

test("a rollback finds the old revision's instances again; a removal answers not_found", async () => {
  const first = world.deploy(testRevision());
  await world.start(first, (_request, response) => response.end("first"));
  world.deploy(testRevision({}, 2));
  world.deploy(first);
  assert.equal((await world.call().answer).body, "first");
  world.deploy(testRevision({}, 3));
  const waiting = world.call();
  world.revisions.clear();
  world.activator.changed(first, null);
  assert.equal(codeOf(await waiting.answer), "not_found");
  assert.equal(codeOf(await world.call().answer), "not_found");
});

test("a start that fails: those who wait hear the function's own words, and newcomers while it backs off", async () => {
  const revision = world.deploy(testRevision());
  const waiting = world.call();
  const failure = {
    fault: "function",
    message: "SyntaxError: x (index.js:1)",
    stack: "at index.js:1",
    hint: null,
  } as const;
  world.activator.startFailed(revision, failure, 2_000);
  const answer = await waiting.answer;
  assert.equal(codeOf(answer), "start_failed");
  assert.match(answer.error!.message, /SyntaxError: x \(index\.js:1\)/);
  assert.equal(end(waiting.id)!.outcome, "error");
  const later = await world.call().answer;
  assert.equal(codeOf(later), "crash_loop");
  assert.equal((later.error as EbbError).retryAfterSeconds, 2);
  world.deploy(testRevision({}, 2));
  world.call();
  assert.equal(world.activator.load(revision).waiting, 1, "another revision starts anew");
});

test("a start that fails for ebb's own reasons, or beside others, keeps them waiting", async () => {
  const revision = world.deploy(testRevision());
  const call = world.call();
  world.activator.startFailed(revision, { fault: "platform", message: "no spawner", stack: null, hint: null }, 100);
  world.starting = 1;
  world.activator.startFailed(revision, { fault: "function", message: "boom", stack: null, hint: null }, 100);
  assert.equal(world.activator.load(revision).waiting, 1);
  await world.start(revision, (_request, response) => response.end("ok"));
  assert.equal((await call.answer).body, "ok");
});

test("an upgrade joins both sides until the instance's side ends", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (_request, response) => {
    const socket = response as unknown as import("node:net").Socket;
    socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n>");
    socket.on("data", (chunk: Buffer) => socket.end(`echo ${chunk.toString()}`));
  });
  const call = world.call({ upgrade: true, headers: ["host", "h", "upgrade", "websocket"] });
  await call.answer;
  const socket = call.sink.upgradedTo!;
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString())).resume();
  assert.equal(end(call.id), undefined, "active until the instance's side ends");
  socket.write("abc");
  await once(socket, "close");
  assert.equal(received, ">echo abc");
  assert.deepEqual(end(call.id), {
    outcome: "ok",
    status: 101,
    bytesIn: 3,
    bytesOut: 9,
  });
});

test("what changes nothing for the number of instances is not reported, and what does is, each time", async () => {
  const revision = world.deploy(testRevision({ concurrency: 10 }));
  const held: Array<() => void> = [];
  await world.start(revision, (_request, response) => void held.push(() => response.end("x")));
  const reported = (): string[] =>
    world.loads.splice(0).map(({ waiting, active }) => `${waiting} waiting, ${active} active`);
  const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
  await turn();
  reported();
  const first = world.call();
  await until(() => held.length === 1, "the first runs");
  assert.deepEqual(reported(), ["0 waiting, 1 active"]);
  const more = Array.from({ length: 5 }, () => world.call());
  await until(() => held.length === 6, "all run");
  held.splice(1).forEach((end) => end());
  await Promise.all(more.map((call) => call.answer));
  assert.deepEqual(reported(), [], "the instance was at work before, and still is");
  held.splice(0).forEach((end) => end());
  await first.answer;
  await turn();
  assert.deepEqual(reported(), ["0 waiting, 0 active"]);
});

test("an upgrade that is not taken: the answer comes, and its connection carries nothing after it", async () => {
  const revision = world.deploy(testRevision());
  const connections = new Set<unknown>();
  await world.start(revision, (request, response) => {
    connections.add(request.socket);
    const socket = response as unknown as import("node:net").Socket;
    if (request.headers.upgrade === undefined) response.end("plain");
    else socket.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
  });
  const asked = await world.call({ upgrade: true, headers: ["host", "h", "upgrade", "websocket"] }).answer;
  assert.deepEqual([asked.head?.status, asked.body], [403, "no"]);
  assert.equal((await world.call().answer).body, "plain");
  assert.equal(connections.size, 2);
});

test("many bodies at once over one read buffer: each caller gets its own", async () => {
  const revision = world.deploy(testRevision({ concurrency: 50 }));
  await world.start(revision, (request, response) => {
    const letter = request.url!.slice(1);
    response.write(letter.repeat(3_000));
    setImmediate(() => response.end(letter.repeat(70_000)));
  });
  const letters = "abcdefghijklmnopqrstuvwxyz".split("");
  const bodies = await Promise.all(
    letters.map(async (letter) => (await world.call({ target: `/${letter}` }).answer).body),
  );
  for (const [i, letter] of letters.entries()) assert.equal(bodies[i], letter.repeat(73_000));
});

test("the depth of a call from an instance is that of the invocation it is made in", async () => {
  const revision = world.deploy(testRevision({ concurrency: 3 }));
  const instance = await world.start(revision, () => {});
  const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  world.call({ depth: 2, headers: ["traceparent", trace] });
  const deep = world.call({ depth: 5 });
  world.endTurn();
  const depth = (invocation: string | null, traceparent: string | null): number =>
    world.activator.depthIn(instance.id, { invocation, traceparent });
  assert.equal(depth(null, trace), 2);
  assert.equal(depth(deep.id, trace), 5);
  assert.equal(depth("forged", "forged"), 5, "without a word that holds, the deepest");
  assert.equal(world.activator.depthIn("other", { invocation: null, traceparent: null }), 0);
});

test("draining refuses new calls and resolves when the last has ended", async () => {
  const revision = world.deploy(testRevision());
  const release = Promise.withResolvers<void>();
  await world.start(revision, (_request, response) => void release.promise.then(() => response.end("ok")));
  const running = world.call();
  const drained = world.activator.drain(5_000);
  assert.equal(codeOf(await world.call().answer), "stopping");
  release.resolve();
  await drained;
  assert.equal((await running.answer).body, "ok");
});
