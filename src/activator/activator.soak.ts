// Calls, aborts, deaths, nonsense, deploys and full disks in random order: every begin has one end, every call its own answer,
// every slot comes back. The seed is in the tests' names; given as the first argument it repeats a run.

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import test from "node:test";
import type { Instance } from "#fleet/door.ts";
import { settle } from "#lib/virtual-clock.ts";
import { EbbError } from "#model/errors.ts";
import type { ServingRevision } from "#model/workload.ts";
import { bodyOf, testRevision, until, World, type CallUnderway } from "./world.testing.ts";

const seed = Number(process.argv[2] ?? Date.now() % 1_000_000);
const rounds = 6;
const stepsInARound = 1_500;

/** mulberry32: small, seeded, good enough to choose. */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

for (let round = 0; round < rounds; round++) {
  const told = round % 2 === 1;
  const concurrency = [1, 3, 20][round % 3]!;
  test(`nothing is lost or counted twice (seed ${seed + round}, ${told ? "told" : "response"}, ${concurrency} at a time)`, async () => {
    const random = randomOf(seed + round);
    const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
    const world = new World();
    const instances = new Map<string, Instance>();
    const held: Array<{ response: ServerResponse; id: string; instance: string }> = [];
    const calls: CallUnderway[] = [];
    let revision: ServingRevision = world.deploy(testRevision({ concurrency }));

    const startOne = async (): Promise<void> => {
      const instance: Instance = await world.start(
        revision,
        (request, response) => {
          const id = String(request.headers["ebb-invocation-id"]);
          const done = (): void => void (told && world.activator.done(instance.id, id));
          response.on("error", () => {});
          const behaviour = random();
          if (behaviour < 0.5)
            request.resume().on("end", () => response.end(id + "x".repeat(Math.floor(random() * 5_000)), done));
          else if (behaviour < 0.6) held.push({ response, id, instance: instance.id });
          else if (behaviour < 0.7) response.writeHead(413).end("early", done);
          else if (behaviour < 0.75) request.socket.destroy();
          else if (behaviour < 0.8) request.socket.end("HTTP/1.1 nonsense\r\n\r\n", done);
          else if (behaviour < 0.85) response.setHeader("ebb-done", "1").end("done");
          else response.write("half", () => setImmediate(() => response.end("rest", done)));
        },
        told ? "told" : "response",
      );
      instances.set(instance.id, instance);
    };
    const kill = (id: string): void => {
      instances.delete(id);
      world.activator.gone(id, { reason: random() < 0.5 ? "memory" : "exited", code: 1, message: "it died." });
    };

    const act = async (): Promise<void> => {
      const choice = random();
      if (choice < 0.55) {
        const body = random() < 0.5 ? null : bodyOf(["abc".repeat(Math.floor(random() * 3_000)), "d"]);
        calls.push(world.call({ method: body ? "POST" : "GET", body }));
      } else if (choice < 0.65) pick(calls)?.invocation.abort();
      else if (choice < 0.75) held.shift()?.response.end("at last");
      else if (choice < 0.78 && instances.size > 0) kill(pick([...instances.keys()])!);
      else if (choice < 0.84 && instances.size < 8) await startOne();
      else if (choice < 0.85) revision = world.deploy(testRevision({ concurrency }, revision.number + 1));
      else if (choice < 0.86) world.beginProblem = world.beginProblem ? null : new EbbError("storage_full", "full");
      else await settle();
    };
    for (let step = 0; step < stepsInARound; step++) await act();

    world.beginProblem = null;
    for (const { response } of held) response.end();
    for (const id of instances.keys()) kill(id);
    for (const { invocation } of calls) invocation.abort();
    const { activator, marks, log } = world;
    await until(() => calls.every(({ id }) => marks.ended.has(id)), "every call has ended");
    for (const { id } of calls) {
      const lines = log.filter((line) => line.includes(id));
      const count = (word: string): number => lines.filter((line) => line.startsWith(word)).length;
      assert.equal(count("end") + count("refused"), 1, `${id}: ${lines.join(", ")}`);
      assert.equal(count("begin"), count("end"), `${id}: ${lines.join(", ")}`);
      assert.ok(count("answer ") <= 1);
    }
    const answers = await Promise.all(
      calls.map(({ id, answer }) => Promise.race([answer, settle().then(() => null)]).then((got) => ({ id, got }))),
    );
    for (const { id, got } of answers) {
      if (got?.head?.status === 200 && got.body.endsWith("x"))
        assert.equal(got.body.slice(0, 26), id, "somebody else's answer");
    }
    const { waiting, active, ready } = activator.load(revision);
    assert.deepEqual({ waiting, active, ready }, { waiting: 0, active: 0, ready: 0 });
    await world.stop();
  });
}
