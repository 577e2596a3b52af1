// The autoscaler's effects: decides on reports, by its timer only when it named a time, and tells what changed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { Fact } from "#model/fact.ts";
import type { ServingRevision } from "#model/workload.ts";
import type { InstanceUse, WorkloadFleetState } from "#fleet/door.ts";
import { revisionOf } from "../../test/simulation/world.ts";
import { createAutoscaler } from "./autoscaler.ts";
import type { Load } from "./door.ts";

function setup(): {
  clock: VirtualClock;
  wants: string[];
  facts: Fact[];
  state: { starting: number };
  /** How often the fleet was asked, and what it expects. */
  asked: { looks: number; states: number; expects: string[] };
  autoscaler: ReturnType<typeof createAutoscaler>;
  onWant: { run: (() => void) | null };
  samples: { awake: number; of: InstanceUse[] };
} {
  const clock = new VirtualClock();
  const wants: string[] = [];
  const facts: Fact[] = [];
  const state = { starting: 0 };
  const onWant: { run: (() => void) | null } = { run: null };
  const samples: { awake: number; of: InstanceUse[] } = { awake: 0, of: [] };
  const asked = { looks: 0, states: 0, expects: [] as string[] };
  const name = (revision: ServingRevision | null): string => (revision ? `r${revision.number}` : "none");
  const autoscaler = createAutoscaler({
    machine: { concurrentStarts: 4, typicalStartMs: 150 },
    clock,
    cpus: 8,
    tell: (fact) => facts.push(fact),
    fleet: {
      want: (revision, count) => {
        wants.push(`${revision.workload}@r${revision.number} ${count}`);
        onWant.run?.();
      },
      eased: () => undefined,
      samples: () => {
        asked.looks++;
        return samples;
      },
      roomFor: () => true,
      expect: (before, after) => void asked.expects.push(`${name(before)} -> ${name(after)}`),
      workloadState: (): WorkloadFleetState => {
        asked.states++;
        return {
          ready: 0,
          starting: state.starting,
          draining: 0,
          paused: 0,
          state: "ready",
          lastFailure: null,
          nextStartMs: null,
        };
      },
    },
  });
  autoscaler.start();
  return { clock, wants, facts, state, asked, autoscaler, onWant, samples };
}

function load(revision: ServingRevision, seen: Partial<Load> = {}): Load {
  const none = { waiting: 0, active: 0, ready: 0, starting: 0, lastActiveUs: null, executionMs: null, startMs: null };
  return { revision, ...none, ...seen };
}

test("draining keeps nothing idle, neither for min nor for a while, and serves what waits and runs", () => {
  const { clock, wants, autoscaler } = setup();
  const [busy, held] = [revisionOf("busy", { idleSeconds: 60 }), revisionOf("held", { min: 2 })];
  autoscaler.report(load(busy, { active: 3, ready: 3 }));
  autoscaler.report(load(busy, { active: 1, ready: 3 }));
  autoscaler.report(load(held, { ready: 2 }));
  wants.length = 0;
  autoscaler.drain();
  assert.deepEqual(wants, ["busy@r1 1", "held@r1 0"]);
  autoscaler.report(load(busy, { waiting: 1, active: 1, ready: 1 }));
  autoscaler.report(load(busy, { active: 2, ready: 2 }));
  autoscaler.report(load(busy, { active: 1, ready: 2 }));
  autoscaler.report(load(busy, { ready: 1 }));
  assert.deepEqual(wants.slice(2), ["busy@r1 2", "busy@r1 1", "busy@r1 0"]);
  assert.equal(clock.pending(), 0);
});

test("a report is answered at once, and idle to zero comes by one timer", async () => {
  const { clock, wants, facts, autoscaler } = setup();
  const revision = revisionOf("a");
  autoscaler.report(load(revision, { waiting: 1 }));
  assert.deepEqual(wants, ["a@r1 1"]);
  autoscaler.report(load(revision, { active: 1, ready: 1 }));
  autoscaler.report(load(revision, { ready: 1 }));
  assert.equal(clock.pending(), 1);
  await clock.advance(59_999);
  assert.deepEqual(wants, ["a@r1 1"]);
  await clock.advance(2);
  assert.deepEqual(wants, ["a@r1 1", "a@r1 0"]);
  assert.equal(clock.pending(), 0);
  assert.deepEqual(
    facts.map((fact) => (fact.kind === "scaled" ? [fact.from, fact.to, fact.reasons[0]] : fact.kind)),
    [
      [0, 1, "1 waiting, 0 active, 1 at a time in an instance"],
      [1, 0, "nothing to do"],
    ],
  );
});

test("a thousand requests one after the other arm no timer each", async () => {
  const { clock, autoscaler } = setup();
  const revision = revisionOf("a");
  for (let i = 0; i < 1000; i++) {
    autoscaler.report(load(revision, { active: 1, ready: 1 }));
    autoscaler.report(load(revision, { ready: 1 }));
    await Promise.resolve();
    assert.ok(clock.pending() <= 1);
  }
});

test("min is held from the moment the revision appears, for the new one after a deploy, for none after a removal", () => {
  const { wants, autoscaler, clock } = setup();
  autoscaler.changed("default", "a", revisionOf("a", { min: 2 }));
  autoscaler.changed("default", "a", revisionOf("a", { min: 3 }, 2));
  autoscaler.changed("default", "a", null);
  assert.deepEqual(wants, ["a@r1 2", "a@r1 0", "a@r2 3", "a@r2 0"]);
  assert.equal(clock.pending(), 0);
});

test("requests that were reported for a revision before it became the current one are not forgotten", () => {
  const { wants, autoscaler } = setup();
  autoscaler.changed("default", "a", revisionOf("a"));
  autoscaler.report(load(revisionOf("a", {}, 2), { waiting: 2 }));
  assert.deepEqual(wants, []);
  autoscaler.changed("default", "a", revisionOf("a", {}, 2));
  assert.deepEqual(wants, ["a@r2 2"]);
});

test("instances that the fleet lost are wanted again when there is work for them", () => {
  const { wants, autoscaler, state } = setup();
  const revision = revisionOf("a");
  autoscaler.report(load(revision, { waiting: 1 }));
  state.starting = 1;
  autoscaler.report(load(revision, { waiting: 1 }));
  state.starting = 0;
  autoscaler.report(load(revision, { waiting: 1 }));
  assert.deepEqual(wants, ["a@r1 1", "a@r1 1"]);
});

test("a report inside a decision is decided after it, not inside it", () => {
  const { wants, autoscaler, onWant } = setup();
  const revision = revisionOf("a");
  onWant.run = () => {
    onWant.run = null;
    autoscaler.report(load(revision, { waiting: 3 }));
    assert.deepEqual(wants, ["a@r1 1"], "no decision inside a decision");
  };
  autoscaler.report(load(revision, { waiting: 1 }));
  assert.deepEqual(wants, ["a@r1 1", "a@r1 3"]);
});

test("after stop nothing is decided and no timer is left", () => {
  const { wants, autoscaler, clock } = setup();
  const revision = revisionOf("a");
  autoscaler.report(load(revision, { active: 1, ready: 1 }));
  autoscaler.report(load(revision, { ready: 1 }));
  assert.equal(clock.pending(), 1);
  const before = wants.length;
  autoscaler.stop();
  autoscaler.report(load(revision, { waiting: 5 }));
  assert.equal(clock.pending(), 0);
  assert.equal(wants.length, before);
});

test("what is deployed and never called is not decided about, and the fleet expects its calls all the same", () => {
  const { clock, wants, facts, asked, autoscaler } = setup();
  for (let index = 0; index < 1_000; index++) {
    const revision = revisionOf(`rare-${index}`);
    autoscaler.changed(revision.project, revision.workload, revision);
  }
  assert.deepEqual([asked.states, clock.pending(), wants, facts], [0, 0, [], []]);
  assert.equal(asked.expects.length, 1_000);
});

test("the fleet is told once of each revision that comes to serve or serves no longer, called or not", () => {
  for (const called of [false, true]) {
    const { asked, autoscaler } = setup();
    const [first, second] = [revisionOf("a"), { ...revisionOf("a"), number: 2 }];
    const { project, workload } = first;
    autoscaler.changed(project, workload, first);
    if (called) autoscaler.report(load(first, { waiting: 1 }));
    autoscaler.changed(project, workload, first);
    if (called) autoscaler.report(load(second, { waiting: 1 }));
    autoscaler.changed(project, workload, second);
    autoscaler.changed(project, workload, null);
    autoscaler.changed(project, workload, null);
    assert.deepEqual(asked.expects, ["none -> r1", "r1 -> r2", "r2 -> none"]);
  }
});

test("the first report of all may be of a revision that is not the current one yet", () => {
  const { wants, autoscaler } = setup();
  const [first, second] = [revisionOf("a"), { ...revisionOf("a"), number: 2 }];
  autoscaler.changed(first.project, first.workload, first);
  autoscaler.report(load(second, { waiting: 1 }));
  assert.deepEqual(wants, []);
  autoscaler.changed(first.project, first.workload, second);
  assert.deepEqual(wants, ["a@r2 1"]);
});

test("what instances use is looked at each second while something runs in them, never of others, and is in the reasons", async () => {
  const { clock, wants, facts, asked, autoscaler, samples } = setup();
  const revision = revisionOf("burns", { concurrency: 80, scaling: { cpuPercent: 50 } });
  const plain = revisionOf("plain", { concurrency: 80, scaling: { requests: 40 } });
  const first = { instance: "i1", cpuNs: 0, memoryBytes: null };
  autoscaler.report(load(plain, { active: 1, ready: 1 }));
  autoscaler.report(load(revision, { waiting: 1 }));
  Object.assign(samples, { awake: 1, of: [first] });
  autoscaler.report(load(revision, { active: 1, ready: 1, startMs: 100 }));
  assert.deepEqual(wants, ["plain@r1 1", "burns@r1 1"]);
  for (let second = 1; second <= 3; second++) {
    samples.of = [{ ...first, cpuNs: second * 0.9e9 }];
    await clock.advance(1_000);
  }
  assert.deepEqual(wants.slice(2), ["burns@r1 2"]);
  assert.deepEqual(autoscaler.scaled(revision).last?.reasons, ["68% of CPU used in 1 instance, 50% is aimed at"]);
  assert.deepEqual(
    facts.map((fact) => fact.kind === "scaled" && fact.to),
    [1, 1, 2],
  );
  const looks = asked.looks;
  autoscaler.report(load(revision, { ready: 2, startMs: 100 }));
  await clock.advance(2_500);
  assert.ok(asked.looks <= looks + 1, "nothing runs, nobody looks");
  await clock.advance(60_000);
  assert.deepEqual(wants.slice(3), ["burns@r1 0"], "and it is gone, whatever it used last");
  autoscaler.report(load(plain, {}));
  await clock.advance(60_000);
  assert.equal(clock.pending(), 0);
});
