// What the activator says of instances in which nothing runs, and of those that are held still: when they are idle, and that they
// go on before anything is handed to them.

import assert from "node:assert/strict";
import { once } from "node:events";
import test, { afterEach, beforeEach } from "node:test";
import { EbbError } from "#model/errors.ts";
import { codeOf, testRevision, until, World } from "./world.testing.ts";

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

test("a paused instance goes on before the call's begin is marked, and so before it is handed over", async () => {
  const revision = world.deploy(testRevision());
  const { id } = await world.start(revision, (_request, response) => {
    world.log.push("handed over");
    response.end("ok");
  });
  world.paused.add(id);
  const call = world.call();
  assert.equal((await call.answer).body, "ok");
  await until(() => world.idle.has(id), "idle");
  assert.deepEqual(world.log, [
    `resume ${id}`,
    `begin ${call.id}`,
    "handed over",
    `end ${call.id} ok 200`,
    `answer ${call.id}`,
  ]);
});

test("an instance that is not paused is taken before one that is, though that was used last", async () => {
  const revision = world.deploy(testRevision({ concurrency: 2 }));
  const served: string[] = [];
  const start = (name: string) =>
    world.start(revision, (_request, response) => {
      served.push(name);
      response.end("ok");
    });
  const [, second] = [await start("first"), await start("second")];
  await world.call().answer;
  world.paused.add(second.id);
  await world.call().answer;
  assert.deepEqual(served, ["second", "first"]);
});

test("an instance is not idle while any of its calls runs, waits for what its handler left, or is joined to its client", async () => {
  const revision = world.deploy(testRevision({ concurrency: 3 }));
  const { id } = await world.start(
    revision,
    (request, response) => {
      if (request.headers.upgrade === undefined) response.end("ok");
      else
        request.socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    },
    "told",
  );
  const joined = world.call({ upgrade: true, headers: ["host", "h", "upgrade", "websocket"] });
  await joined.answer;
  const lingering = world.call();
  await lingering.answer;
  assert.ok(!world.idle.has(id));
  const socket = joined.sink.upgradedTo!;
  const closed = once(socket, "close");
  socket.destroy();
  await closed;
  assert.ok(!world.idle.has(id), "one has not said that it is done");
  world.activator.done(id, lingering.id);
  assert.ok(world.idle.has(id));
});

test("a call that could not begin leaves its instance idle again", async () => {
  const revision = world.deploy(testRevision());
  const { id } = await world.start(revision, (_request, response) => response.end("ok"));
  world.beginProblem = new EbbError("storage_full", "no room");
  assert.equal(codeOf(await world.call().answer), "storage_full");
  assert.ok(world.idle.has(id));
});
