// The pool's effects: what it makes and lets go, to whom its sandboxes speak, and what becomes of those that are of no use.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import type { Fact } from "#model/fact.ts";
import { poolLimits } from "#model/limits.ts";
import type { Exit, PoolKey, RuntimePool, SandboxListener } from "#sandbox/door.ts";
import { settle, VirtualClock } from "#lib/virtual-clock.ts";
import { Pool } from "./pool.ts";

const node: RuntimePool = { runtime: "node26", memoryMb: 128, tmpBytes: 1, egress: "internet" };
const python: RuntimePool = { ...node, runtime: "python3" };
const exit: Exit = { reason: "exited", code: 1, message: "exited with 1" };

let clock: VirtualClock;
let facts: Fact[];
let quiet: boolean;
let idle: number;
/** Living sandboxes, in the order of their making. */
let living: Map<string, { readonly key: PoolKey; readonly listener: SandboxListener }>;
let prepared: number;
let prepare: () => void;
/** Until then what is being made is not there. */
let held: Promise<void>;
/** So many of the next stops fail. */
let busy: number;
let pool: Pool;

beforeEach(() => {
  clock = new VirtualClock();
  facts = [];
  quiet = true;
  idle = 2;
  living = new Map();
  prepared = 0;
  prepare = () => undefined;
  held = Promise.resolve();
  busy = 0;
  pool = make(10 * poolLimits.sandboxBytes);
});
afterEach(async () => {
  await pool.stop();
  assert.equal(living.size, 0);
  assert.equal(clock.pending(), 0);
});

function make(budgetBytes: number): Pool {
  const driver = {
    async prepare(key: PoolKey, listener: SandboxListener) {
      prepare();
      const id = `s${++prepared}`;
      await held;
      living.set(id, { key, listener });
      return id;
    },
    async stopSandbox(id: string) {
      if (busy-- > 0) throw new Error("the engine is busy");
      const one = living.get(id);
      living.delete(id);
      one?.listener.exited({ reason: "stopped", code: null, message: "stopped" });
    },
  };
  return new Pool({
    driver,
    clock,
    tell: (fact) => facts.push(fact),
    budgetBytes,
    quiet: () => quiet,
    idleCpus: () => idle,
  });
}

async function pass(ms: number): Promise<void> {
  const untilUs = clock.monotonicUs() + ms * 1_000;
  await settle();
  while (clock.step(untilUs)) await settle();
}

const silent: SandboxListener = { done: () => undefined, exited: () => undefined };
const kinds = (): string[] => [...living.values()].map(({ key }) => ("image" in key ? key.image : key.runtime));

test("one of each kind that may be called is made, one after the other, and then there is nothing to do", async () => {
  pool.start();
  pool.expect(node, 1);
  pool.expect(node, 1);
  pool.expect(python, 1);
  await pass(poolLimits.paceMs + 1);
  assert.equal(prepared, 1);
  await pass(10 * poolLimits.paceMs);
  assert.deepEqual(kinds().toSorted(), ["node26", "python3"]);
  assert.equal(clock.pending(), 0);
  assert.deepEqual(pool.state(), { sandboxes: 2, memoryBytes: 2 * poolLimits.sandboxBytes });
});

test("what was taken is made again, and nobody takes the same twice", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(1_000);
  const taken = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const id = pool.take(node, silent, true);
    if (id !== null) {
      assert.ok(!taken.has(id));
      taken.add(id);
    }
    pool.settle();
    await pass(500);
  }
  assert.ok(taken.size > 15, String(taken.size));
  for (const id of taken) living.delete(id);
});

test("where no CPU is idle the first of a kind is made, and the others of a crowd wait for it, but not for ever", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(1_000);
  const crowd = async (): Promise<void> => {
    for (let i = 0; i < 4; i++) pool.take(node, silent, true);
    living.clear();
    pool.settle();
    await pass(5_000);
  };
  idle = poolLimits.idleCpus / 2;
  await crowd();
  assert.equal(pool.state().sandboxes, 1);
  idle = poolLimits.idleCpus;
  await pass(1_000);
  assert.equal(pool.state().sandboxes, 4);
  idle = 0;
  await crowd();
  assert.equal(pool.state().sandboxes, 1);
  await pass(poolLimits.heldMaxMs);
  assert.equal(pool.state().sandboxes, 2);
});

test("the last of a kind is for who runs nothing yet, where several could call for it", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(1_000);
  assert.notEqual(pool.take(node, silent, false), null, "nobody else would start such a one");
  pool.expect(node, 1);
  await pass(1_000);
  assert.equal(pool.take(node, silent, false), null);
  assert.notEqual(pool.take(node, silent, true), null);
  living.clear();
});

test("what a taken one tells goes to its taker, also its end", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(1_000);
  const heard: string[] = [];
  const id = pool.take(node, { done: (one) => heard.push(one), exited: ({ message }) => heard.push(message) }, true)!;
  const { listener } = living.get(id)!;
  listener.done("invocation");
  living.delete(id);
  listener.exited(exit);
  assert.deepEqual(heard, ["invocation", "exited with 1"]);
});

test("one that has died is not given to anybody, and another takes its place in its time", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(1_000);
  const [id, { listener }] = [...living][0]!;
  living.delete(id);
  listener.exited(exit);
  assert.equal(pool.take(node, silent, true), null);
  await pass(10 * poolLimits.paceMs);
  assert.equal(living.size, 1);
});

test("where all of them die young, another is made later and later", async () => {
  prepare = () => {
    const id = `s${prepared + 1}`;
    clock.after(200, () => {
      const one = living.get(id);
      living.delete(id);
      one?.listener.exited(exit);
    });
  };
  pool.start();
  pool.expect(node, 1);
  await pass(600_000);
  assert.ok(prepared > 5 && prepared < 25, `${prepared} in ten minutes`);
});

test("while somebody waits for a start of his own none is made", async () => {
  quiet = false;
  pool.start();
  pool.expect(node, 1);
  await pass(5_000);
  assert.equal(prepared, 0);
  quiet = true;
  pool.settle();
  await pass(poolLimits.paceMs + 1);
  assert.equal(prepared, 1);
});

test("where none can be made it is tried again later and later, and the operator is told", async () => {
  prepare = () => {
    throw new Error("no sandbox today");
  };
  pool.start();
  pool.expect(node, 1);
  await pass(600_000);
  assert.ok(facts.length > 5 && facts.length < 25, `${facts.length} tries in ten minutes`);
  assert.equal(facts[0]?.kind, "defect");
});

test("a kind that nobody would start any more lets its own go at once", async () => {
  pool.start();
  pool.expect(node, 1);
  pool.expect(python, 1);
  await pass(1_000);
  pool.expect(python, -1);
  await pass(1);
  assert.deepEqual(kinds(), ["node26"]);
  assert.equal(pool.take(python, silent, true), null);
});

test("one that the engine does not end at once is ended again, and the operator is told", async () => {
  pool.start();
  pool.expect(node, 1);
  await pass(5_000);
  assert.equal(living.size, 1);
  busy = 2;
  pool.expect(node, -1);
  await pass(100);
  assert.deepEqual([living.size, pool.state().sandboxes], [1, 0]);
  await pass(1_000);
  assert.equal(living.size, 0);
  assert.deepEqual(
    facts.map((fact) => fact.kind === "defect" && fact.where),
    ["fleet.pool", "fleet.pool"],
  );
});

test("a crowd leaves as many behind as came, within the budget, and they go as it is forgotten", async () => {
  pool.start();
  pool.expect(node, 1);
  for (let i = 0; i < 30; i++) {
    const id = pool.take(node, silent, true);
    if (id !== null) living.delete(id);
  }
  pool.settle();
  await pass(5_000);
  assert.equal(living.size, 10);
  await pass(12 * poolLimits.halfLifeMs);
  assert.equal(living.size, 1);
  assert.equal(clock.pending(), 0);
});

test("one that is made while its kind goes is let go", async () => {
  const made = Promise.withResolvers<void>();
  held = made.promise;
  pool.start();
  pool.expect(node, 1);
  await pass(poolLimits.paceMs + 1);
  assert.equal(prepared, 1);
  pool.expect(node, -1);
  await pass(1);
  made.resolve();
  await pass(1);
  assert.deepEqual(kinds(), []);
});

test("without a budget nothing is ever made", async () => {
  await pool.stop();
  pool = make(0);
  pool.start();
  pool.expect(node, 1);
  assert.equal(pool.take(node, silent, true), null);
  pool.settle();
  await pass(100_000);
  assert.equal(prepared, 0);
});
