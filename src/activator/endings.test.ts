// How invocations end that do not end well: deadlines, timeouts and deaths of instances.

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import test, { afterEach, beforeEach } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Call } from "./door.ts";
import { bodyOf, codeOf, testRevision, until, World } from "./world.testing.ts";

let world: World;
const worlds: World[] = [];
const make = (options?: ConstructorParameters<typeof World>[0]): void => void worlds.push((world = new World(options)));
beforeEach(() => make());
afterEach(async () => {
  for (const one of worlds.splice(0)) await one.stop();
});

const end = (id: string) => world.ended(id);

test("an instance that dies before its answer: 502 with the words of its exit", async () => {
  const revision = world.deploy(testRevision());
  const broke = Promise.withResolvers<void>();
  const instance = await world.start(revision, (request) => {
    request.socket.on("close", () => broke.resolve()).destroy();
  });
  const call = world.call({ method: "POST" });
  await broke.promise;
  world.activator.gone(instance.id, {
    reason: "memory",
    code: 137,
    message: "out of memory: 256 MiB, peak 256; raise memoryMb.",
  });
  const answer = await call.answer;
  assert.equal(codeOf(answer), "out_of_memory");
  assert.match(answer.error!.message, /raise memoryMb/);
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["memory", 502]);
});

test("an instance that dies in the middle of its answer: the caller is cut off", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.start(revision, (_request, response) => void response.write("half"));
  const call = world.call();
  await call.sink.headCame.promise;
  world.activator.gone(instance.id, { reason: "exited", code: 1, message: "it exited with code 1." });
  const answer = await call.answer;
  assert.deepEqual([codeOf(answer), answer.headSent], ["instance_exited", true]);
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["exited", 200]);
});

test("an instance that dies after its answer and before done: interrupted, the status kept", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.start(revision, (_request, response) => response.end("ok"), "told");
  const call = world.call();
  await call.answer;
  world.activator.gone(instance.id, { reason: "memory", code: 137, message: "out of memory" });
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["interrupted", 200]);
});

// --- time, moved by hand

test("nobody waits longer than the deadline, and each is told what was in the way", async () => {
  const clock = new VirtualClock();
  make({ clock, waiting: { perWorkload: 10, inAll: 10, deadlineMs: 30_000 } });
  const revision = world.deploy(testRevision());
  const first = world.call();
  await clock.advance(10_000);
  world.activator.full(revision, "capacity");
  const second = world.call();
  await clock.advance(20_000);
  assert.equal(codeOf(await first.answer), "capacity");
  assert.equal(world.activator.load(revision).waiting, 1);
  world.activator.full(revision, "over_quota");
  await clock.advance(10_000);
  assert.equal(codeOf(await second.answer), "over_quota");
  assert.equal(clock.pending(), 0, "an idle activator has no timers");
});

test("a queue that is full says so at once", async () => {
  make({ waiting: { perWorkload: 1, inAll: 10, deadlineMs: 30_000 } });
  world.deploy(testRevision());
  world.call();
  assert.equal(codeOf(await world.call().answer), "queue_full");
});

test("where no more bodies are held a call that would have to wait with one is refused, and one that need not runs", async () => {
  const revision = world.deploy(testRevision({ concurrency: 2 }));
  const crowded = (): Call["body"] => Object.assign(bodyOf(["x"]), { crowded: true });
  const refused = world.call({ body: crowded() });
  assert.equal(codeOf(await refused.answer), "queue_full");
  assert.equal(end(refused.id)?.status, 503);
  assert.equal(world.activator.load(revision).waiting, 0);
  const waiting = world.call({ body: null });
  await world.start(revision, (request, response) => void request.resume().on("end", () => response.end("taken")));
  assert.equal((await waiting.answer).body, "taken");
  assert.equal((await world.call({ body: crowded() }).answer).body, "taken");
});

test("a timeout at concurrency 1: 504, and the instance is killed", async () => {
  const clock = new VirtualClock();
  make({ clock });
  const revision = world.deploy(testRevision({ timeoutSeconds: 3 }));
  const instance = await world.start(revision, () => {}, "told");
  const call = world.call();
  await clock.advance(2_999);
  assert.equal(end(call.id), undefined);
  await clock.advance(1);
  assert.equal(codeOf(await call.answer), "timeout");
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["timeout", 504]);
  assert.ok(world.log.includes(`kill ${instance.id}`));
  assert.equal(world.activator.load(revision).ready, 0);
});

test("a timeout above concurrency 1: the others end, then the instance is killed; each has its own time", async () => {
  const clock = new VirtualClock();
  make({ clock });
  const revision = world.deploy(testRevision({ timeoutSeconds: 3, concurrency: 2 }));
  const instance = await world.start(revision, () => {}, "told");
  const first = world.call();
  await clock.advance(1_000);
  const second = world.call();
  await clock.advance(2_000);
  assert.equal(codeOf(await first.answer), "timeout");
  assert.ok(world.log.includes(`drain ${instance.id}`), "it is replaced at once");
  assert.ok(!world.log.includes(`kill ${instance.id}`));
  const third = world.call();
  assert.equal(world.activator.load(revision).waiting, 1, "nothing new goes to it");
  world.activator.done(instance.id, second.id);
  await clock.advance(999);
  assert.equal(end(second.id), undefined, "done, but its answer is owed");
  await clock.advance(1);
  assert.equal(codeOf(await second.answer), "timeout");
  assert.ok(world.log.includes(`kill ${instance.id}`));
  third.invocation.abort();
});

test("an answer that is out and never done: interrupted at the timeout, its status kept", async () => {
  const clock = new VirtualClock();
  make({ clock });
  const revision = world.deploy(testRevision({ timeoutSeconds: 3 }));
  await world.start(revision, (_request, response) => response.end("ok"), "told");
  const call = world.call();
  await call.answer;
  await clock.advance(3_000);
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["interrupted", 200]);
});

test("a connection that breaks while the instance lives: 502 after the moment that its exit is waited for", async () => {
  const clock = new VirtualClock();
  make({ clock });
  const revision = world.deploy(testRevision({ concurrency: 2 }));
  const broke = Promise.withResolvers<void>();
  await world.start(revision, (request) => void request.socket.destroy().on("close", () => broke.resolve()));
  const call = world.call();
  await broke.promise;
  await until(() => clock.pending() > 1, "the wait for an exit");
  await clock.advance(1_000);
  const answer = await call.answer;
  assert.equal(codeOf(answer), "bad_response");
  assert.match(answer.error!.message, /closed the connection/);
});

// --- between a mark and its being written

test("a begin that the disk refuses was not handed over: 503, recorded as refused, and the slot is free", async () => {
  const revision = world.deploy(testRevision());
  let served = 0;
  await world.start(revision, (_request, response) => response.end(`${++served}`));
  world.writeProblem = new EbbError("storage_full", "EIO");
  const refused = world.call();
  assert.equal(codeOf(await refused.answer), "storage_full");
  assert.deepEqual([end(refused.id)!.outcome, end(refused.id)!.status], ["refused", 503]);
  assert.equal(served, 0);
  world.writeProblem = null;
  assert.equal((await world.call().answer).body, "1");
});

test("a caller that leaves while its begin is being written: nothing is handed over, and it has ended", async () => {
  const revision = world.deploy(testRevision());
  let served = 0;
  await world.start(revision, (_request, response) => response.end(`${++served}`), "told");
  const left = world.call();
  left.invocation.abort();
  await until(() => end(left.id) !== undefined, "it ended");
  assert.equal(end(left.id)!.outcome, "client_gone");
  assert.equal(served, 0);
  const next = world.call();
  assert.equal((await next.answer).body, "1", "the slot was given back");
});

test("an instance that dies while a begin in it is being written: the caller is told how it ended", async () => {
  const revision = world.deploy(testRevision());
  const instance = await world.start(revision, () => undefined);
  const call = world.call();
  world.activator.gone(instance.id, { reason: "exited", code: 1, message: "it exited with code 1." });
  assert.equal(codeOf(await call.answer), "instance_exited");
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["exited", 502]);
});

test("a caller that leaves after its answer was marked and before it was sent gets nothing, and the record stays", async () => {
  const revision = world.deploy(testRevision());
  await world.start(revision, (_request, response) => response.end("late"));
  const call = world.call();
  world.onLoad = ({ active }) => {
    // The slot is free as soon as the end is marked, which is before the answer goes out.
    if (active === 0) call.invocation.abort();
  };
  await until(() => end(call.id) !== undefined, "it ended");
  assert.deepEqual([end(call.id)!.outcome, end(call.id)!.status], ["ok", 200]);
});

test("a caller that leaves while the instance thinks about a switch has left, also where the switch comes then", async () => {
  const revision = world.deploy(testRevision());
  const held = Promise.withResolvers<Socket>();
  await world.startRaw(revision, (socket) => void socket.once("data", () => held.resolve(socket)));
  const left = world.call({ upgrade: true, headers: ["host", "h", "upgrade", "websocket"] });
  const socket = await held.promise;
  left.invocation.abort();
  socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
  await until(() => end(left.id) !== undefined, "it ended");
  assert.equal(end(left.id)!.outcome, "client_gone");
});
