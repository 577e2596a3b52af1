// The autoscaler with keep-alive by histogram: instances ahead of calls, in virtual time, and everything that must not come of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { keepAliveLimits } from "#model/limits.ts";
import type { FunctionSettings, ServingRevision } from "#model/workload.ts";
import { revisionOf } from "../../test/simulation/world.ts";
import { createAutoscaler } from "./autoscaler.ts";
import type { KeepAlive } from "./door.ts";
import { pauseMinUs } from "./keep-alive.ts";
import { newPauses, RememberedPauses } from "./pauses.ts";

const startMs = 150;

/** A function whose instances start in 150 ms and go at once, and who calls it. */
class Scene {
  readonly clock = new VirtualClock();
  /** "seconds since the last call ended: instances". */
  readonly wants: string[] = [];
  readonly reasons: string[] = [];
  readonly autoscaler: ReturnType<typeof createAutoscaler>;
  revision: ServingRevision;
  room = true;
  asked = 0;
  ready = 0;
  starting = 0;
  cold = 0;
  #lastUs = 0;

  constructor(settings: Partial<FunctionSettings> = {}, keepAlive: KeepAlive = "histogram") {
    const said = Object.keys(settings).includes("idleSeconds");
    this.revision = { ...revisionOf("f", settings), settingSources: { idleSeconds: said ? "app file" : "default" } };
    this.autoscaler = createAutoscaler({
      machine: { concurrentStarts: 3, typicalStartMs: 150 },
      clock: this.clock,
      keepAlive,
      tell: () => undefined,
      cpus: 8,
      fleet: {
        want: (_, count, reasons) => {
          this.wants.push(`${((this.clock.monotonicUs() - this.#lastUs) / 1e6).toFixed(1)}: ${count}`);
          this.reasons.push(...reasons);
          for (; this.ready + this.starting < count; this.starting++) this.clock.after(startMs, () => this.#started());
          if (count >= this.ready) return;
          this.ready = count;
          this.report(0, 0);
        },
        expect: () => undefined,
        eased: () => undefined,
        samples: () => ({ awake: 0, of: [] }),
        roomFor: () => {
          this.asked++;
          return this.room;
        },
        workloadState: () => ({
          ready: this.ready,
          starting: this.starting,
          draining: 0,
          paused: 0,
          state: "ready",
          lastFailure: null,
          nextStartMs: null,
        }),
      },
    });
    this.autoscaler.start();
    this.autoscaler.changed("default", "f", this.revision);
  }

  /** As the activator does, also for what was taken from it. */
  report(waiting: number, active: number): void {
    const { revision, ready } = this;
    const none = { lastActiveUs: null, executionMs: null, startMs };
    this.autoscaler.report({ revision, waiting, active, ready, starting: 0, ...none });
  }

  #started(): void {
    if (this.starting === 0) return;
    this.starting--;
    this.ready++;
    this.report(0, 0);
  }

  /** A call that takes no time, so that pauses are what they seem. */
  call(): void {
    if (this.ready === 0) {
      this.cold++;
      this.report(1, 0);
      this.starting = 0;
      this.ready = 1;
    }
    this.report(0, 1);
    this.#lastUs = this.clock.monotonicUs();
    this.report(0, 0);
  }

  async calls(count: number, everySeconds: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      this.call();
      await this.clock.advance(everySeconds * 1_000);
    }
  }

  /** What is wanted in the pause after one more call; a minute after the horizon nothing more can come. */
  async pauseAfterCall(seconds = 5 * 3_600): Promise<string[]> {
    this.call();
    this.wants.length = 0;
    await this.clock.advance(seconds * 1_000);
    return this.wants;
  }
}

test("a function that is called every five minutes: an instance goes at once, and is there before the next call", async () => {
  const scene = new Scene();
  await scene.calls(keepAliveLimits.evidence + 1, 300);
  const learning = scene.cold;
  assert.equal(learning, keepAliveLimits.evidence + 1, "while nothing is known, each is cold");
  await scene.calls(20, 300);
  assert.equal(scene.cold, learning, "then none is");
  const [away, expected, over, ...more] = await scene.pauseAfterCall();
  assert.deepEqual(more, []);
  assert.equal(away, "1.0: 0");
  assert.match(expected!, /^2[5-9]\d\.\d: 1$/);
  assert.match(over!, /^3[0-5]\d\.\d: 0$/);
  assert.equal(scene.clock.pending(), 0, "after the last call, nothing more ever happens");
  assert.ok(scene.reasons.some((reason) => /a call is expected: \d+ of the last \d+ pauses ended/.test(reason)));
});

test("with little known, the default time; with idleSeconds said, that time whatever is known; and so with fixed", async () => {
  const little = new Scene();
  await little.calls(keepAliveLimits.evidence - 1, 300);
  assert.deepEqual(await little.pauseAfterCall(), ["60.0: 0"]);
  const said = new Scene({ idleSeconds: 10 });
  await said.calls(50, 300);
  assert.deepEqual(await said.pauseAfterCall(), ["10.0: 0"]);
  const atOnce = new Scene({ idleSeconds: 0 });
  await atOnce.calls(50, 300);
  assert.deepEqual(await atOnce.pauseAfterCall(), []);
  assert.equal(atOnce.ready, 0);
  const fixed = new Scene({}, "fixed");
  await fixed.calls(50, 300);
  assert.deepEqual(await fixed.pauseAfterCall(), ["60.0: 0"]);
});

test("what min holds is held, and no plan is made for it", async () => {
  const scene = new Scene({ min: 1 });
  await scene.calls(50, 300);
  assert.deepEqual(await scene.pauseAfterCall(), []);
  assert.equal(scene.ready, 1);
});

test("a function that is often called a little after the default time is kept for longer, and goes then", async () => {
  const scene = new Scene();
  for (let i = 0; i < 60; i++) await scene.calls(1, 30 + i);
  const wants = await scene.pauseAfterCall();
  assert.equal(wants.length, 1);
  assert.match(wants[0]!, /^(8|9|10)\d\.\d: 0$/);
});

test("one that was started ahead and has gone, since its memory was needed, is not started again in the same pause", async () => {
  const scene = new Scene();
  await scene.calls(30, 300);
  scene.call();
  await scene.clock.advance(298_000);
  assert.equal(scene.ready, 1);
  scene.wants.length = 0;
  scene.ready = 0;
  scene.report(0, 0);
  await scene.clock.advance(3_600_000);
  assert.deepEqual(
    scene.wants.map((want) => want.split(": ")[1]),
    ["0"],
  );
  assert.equal(scene.clock.pending(), 0);
});

test("where there is no room nothing is started ahead; it is tried a few times, and given up", async () => {
  const scene = new Scene();
  await scene.calls(30, 300);
  scene.asked = 0;
  scene.room = false;
  assert.deepEqual(await scene.pauseAfterCall(), ["1.0: 0"]);
  assert.equal(scene.asked, keepAliveLimits.startTries);
  scene.call();
  scene.wants.length = 0;
  await scene.clock.advance(250_000);
  while (scene.asked === keepAliveLimits.startTries) await scene.clock.advance(500);
  scene.room = true;
  await scene.clock.advance(1_500);
  assert.equal(scene.ready, 1, "room came in time");
});

test("another revision goes on with what was learned; a name that was removed and comes again begins anew", async () => {
  const scene = new Scene();
  await scene.calls(30, 300);
  scene.revision = { ...scene.revision, number: 2 };
  scene.ready = 0;
  scene.autoscaler.changed("default", "f", scene.revision);
  assert.equal((await scene.pauseAfterCall()).length, 3);
  scene.autoscaler.changed("default", "f", null);
  scene.autoscaler.changed("default", "f", scene.revision);
  assert.deepEqual(await scene.pauseAfterCall(), ["60.0: 0"]);
});

test("a drain keeps nothing and expects nobody", async () => {
  const scene = new Scene();
  await scene.calls(30, 300);
  scene.call();
  scene.wants.length = 0;
  scene.autoscaler.drain();
  await scene.clock.advance(3_600_000);
  assert.deepEqual(scene.wants, ["0.0: 0"]);
});

test("calls that follow each other at once leave nothing in memory, and no timer each", async () => {
  const remembered = new RememberedPauses();
  const pauses = newPauses();
  for (let us = 0; us < 10_000_000; us += 1_000) remembered.seen(pauses, us % 2_000 === 0, us);
  assert.deepEqual([pauses.history, remembered.size], [null, 0]);
  const scene = new Scene();
  await scene.calls(20, 10);
  for (let i = 0; i < 1_000; i++) {
    scene.call();
    assert.ok(scene.clock.pending() <= 1);
  }
});

test("pauses of so many workloads are remembered and no more: of those that were called last", () => {
  const remembered = new RememberedPauses();
  const all = Array.from({ length: keepAliveLimits.workloads + 100 }, () => newPauses());
  let nowUs = 0;
  const once = (pauses: (typeof all)[number]): void => {
    remembered.seen(pauses, true, nowUs);
    remembered.seen(pauses, false, nowUs);
    nowUs += pauseMinUs;
    remembered.seen(pauses, true, nowUs);
    remembered.seen(pauses, false, nowUs);
  };
  for (const pauses of all.slice(0, keepAliveLimits.workloads)) once(pauses);
  for (const pauses of all.slice(0, 50)) once(pauses);
  for (const pauses of all.slice(keepAliveLimits.workloads)) once(pauses);
  assert.equal(remembered.size, keepAliveLimits.workloads);
  assert.ok(all.slice(0, 50).every(({ history }) => history !== null));
  assert.ok(all.slice(50, 150).every(({ history }) => history === null));
  assert.ok(all.slice(150).every(({ history }) => history !== null));
});
