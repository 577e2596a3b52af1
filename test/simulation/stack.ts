// The whole path of a call in the simulation: the activator, autoscaler and fleet as they are, HTTP and all, over the fake driver.

import assert from "node:assert/strict";
import type { ReplySink, Call, Invocation } from "#activator/door.ts";
import type { KeepAlive } from "#autoscaler/door.ts";
import type { Marked } from "#metering/door.ts";
import type { Fact } from "#model/fact.ts";
import { newInvocationId } from "#model/ids.ts";
import { keyOf, type ServingRevision } from "#model/workload.ts";
import { settle, VirtualClock } from "#lib/virtual-clock.ts";
import { createActivator } from "../../src/activator/activator.ts";
import { createAutoscaler } from "../../src/autoscaler/autoscaler.ts";
import { createFleet } from "../../src/fleet/fleet.ts";
import { createFakeDriver, type FakeOptions, type Script } from "../../src/sandbox/fake/fake.ts";
import { seeded } from "./chance.ts";
import { revisionOf } from "./world.ts";

const MiB = 1024 * 1024;
const concurrentStarts = 4;
/** Turns of the loop that bytes take through streams and parsers from one side to the other, and back. */
const turnsOfAStep = 12;

export interface StackOptions {
  /** Nothing fails, in no sandbox. */
  readonly calm?: boolean;
  readonly told?: (fact: Fact) => void;
  /** Left out: fixed. */
  readonly keepAlive?: KeepAlive;
  /** What sandboxes do in the place of what chance has them do. */
  readonly script?: NonNullable<FakeOptions["script"]>;
  /** For those that are started ahead. */
  readonly poolMb?: number;
}

export class Stack {
  readonly clock = new VirtualClock();
  readonly chance: () => number;
  readonly driver: ReturnType<typeof createFakeDriver>;
  readonly fleet: ReturnType<typeof createFleet>;
  readonly autoscaler: ReturnType<typeof createAutoscaler>;
  readonly activator: ReturnType<typeof createActivator>;
  readonly revisions = new Map<string, ServingRevision>();
  /** Ends of each call: exactly one in the end. */
  readonly ends = new Map<string, string[]>();
  readonly aborted = new Set<string>();
  readonly metered = new Set<string>();
  readonly #marked: (Marked | undefined)[] = [];
  readonly #calm: boolean;

  constructor(seed: number, memoryMb: number, options: StackOptions = {}) {
    const { calm = false, told, keepAlive = "fixed", script, poolMb = 0 } = options;
    this.#calm = calm;
    this.chance = seeded(seed);
    const { clock } = this;
    this.driver = createFakeDriver({
      clock,
      script: script ?? ((_pool, assignment) => this.#script(assignment?.concurrency ?? 1)),
    });
    const tell = (fact: Fact): void => {
      if (fact.kind === "defect") throw fact.error;
      told?.(fact);
    };
    this.fleet = createFleet({
      driver: this.driver,
      access: { mintCredential: (instance) => instance, revokeCredential: () => undefined },
      secrets: { secret: () => null, open: () => "" },
      loadCaches: { of: () => null, keep: async () => false },
      telemetry: {
        attach: () => undefined,
        detach: () => undefined,
        settled: async () => undefined,
        tail: async () => [],
      },
      clock,
      tell,
      chance: this.chance,
      internalUrl: () => "http://ebb.internal",
      user: () => this.activator,
      quotas: () => null,
      memoryBytes: memoryMb * MiB,
      concurrentStarts,
      poolBytes: poolMb * MiB,
      pauseAfterMs: 200,
    });
    const machine = { concurrentStarts: concurrentStarts - 1, typicalStartMs: 150 };
    this.autoscaler = createAutoscaler({ fleet: this.fleet, clock, tell, machine, cpus: 8, keepAlive });
    this.autoscaler.start();
    this.activator = createActivator({
      clock,
      fleet: this.fleet,
      autoscaler: this.autoscaler,
      tell,
      current: (project, workload) => this.revisions.get(keyOf({ project, workload })) ?? null,
      meter: {
        admit: () => null,
        refused: ({ mark: { id } }, marked) => {
          this.#ended(this.metered, id);
          this.#mark(marked);
        },
        instance: () => ({
          begin: ({ id }, marked) => {
            this.#mark(marked);
            return {
              answered: (_, answered) => this.#mark(answered),
              end: (_, ended) => {
                this.#ended(this.metered, id);
                this.#mark(ended);
              },
            };
          },
          released: () => undefined,
          close: () => undefined,
        }),
        flush: () => this.#writeMarks(),
      },
    });
  }

  deploy(revision: ServingRevision): void {
    this.revisions.set(keyOf(revision), revision);
    this.autoscaler.changed(revision.project, revision.workload, revision);
    this.activator.changed(revision, revision);
    this.fleet.retire(revision, revision, "another revision serves");
  }

  remove(revision: ServingRevision): void {
    this.revisions.delete(keyOf(revision));
    this.autoscaler.changed(revision.project, revision.workload, null);
    this.activator.changed(revision, null);
    this.fleet.retire(revision, null, "removed");
  }

  /** `over`: told when it has ended, with its error. */
  call(revision: ServingRevision, over: (error: Error | null) => void = () => undefined): Invocation {
    const id = newInvocationId(this.clock.wallMs());
    const ends: string[] = [];
    this.ends.set(id, ends);
    const sink: ReplySink = {
      head: () => undefined,
      data: () => true,
      end: () => {
        ends.push("answered");
        over(null);
      },
      failed: (error) => {
        ends.push(String(error));
        over(error);
      },
    };
    const call: Call = {
      id,
      project: revision.project,
      workload: revision.workload,
      trigger: "http",
      method: "GET",
      target: "/",
      headers: ["host", "f.localhost"],
      body: null,
      depth: 0,
      arrivedUs: this.clock.monotonicUs(),
      upgrade: false,
    };
    return this.activator.invoke(call, sink);
  }

  async run(ms: number): Promise<void> {
    const untilUs = this.clock.monotonicUs() + Math.round(ms * 1000);
    do {
      for (let turn = 0; turn < turnsOfAStep; turn++) await settle();
      const { memoryBytes, memoryLimitBytes } = this.fleet.state();
      assert.ok(memoryBytes <= memoryLimitBytes, "more memory than there is");
    } while (this.clock.step(untilUs));
  }

  /** As the journal does: all marks of a turn are written at its end. */
  #mark(marked: Marked | undefined): void {
    if (this.#marked.length === 0) setImmediate(() => this.#writeMarks());
    this.#marked.push(marked);
  }

  #writeMarks(): void {
    for (const marked of this.#marked.splice(0)) marked?.marked(null);
  }

  #ended(metered: Set<string>, id: string): void {
    assert.ok(!metered.has(id), `${id} was metered twice`);
    metered.add(id);
  }

  #script(concurrency: number): Script {
    const { chance, clock } = this;
    const active = { count: 0 };
    const roll = this.#calm ? 0.5 : chance();
    const failure = { fault: "function", message: "SyntaxError", stack: null, hint: null } as const;
    return {
      prepareMs: 1 + 3 * chance(),
      startMs: 30 + 100 * chance(),
      stopMs: 5 * chance(),
      ...(roll < 0.02 ? { fails: failure } : {}),
      ...(roll > 0.99 ? { neverReady: true } : {}),
      ...(roll > 0.97 && roll < 0.98
        ? { dies: { afterMs: 500 * chance(), exit: { reason: "exited", code: 1, message: "It exited." } as const } }
        : {}),
      serve: (request, response, sandbox) => {
        let left = false;
        const leave = (): void => {
          if (!left) active.count--;
          left = true;
          request.socket.off("end", leave);
        };
        active.count++;
        // A caller that has gone half-closes, and node:http closes: to the outside it has ended with that.
        request.socket.once("end", leave);
        assert.ok(active.count <= concurrency, `${active.count} at once in an instance, ${concurrency} are allowed`);
        const what = this.#calm ? 0.5 : chance();
        if (what < 0.01) return sandbox.exit(3);
        if (what < 0.02) return;
        clock.after(1 + 50 * chance(), () => {
          leave();
          response.end("ok");
        });
      },
    };
  }
}

/** Some hours of calls by a seed; checks that each call ends once, is metered once, and that nothing is left. */
export async function tellStack(seed: number, events: number): Promise<Record<string, number>> {
  const stack = new Stack(seed, seed % 2 === 0 ? 2048 : 16_384);
  const { chance } = stack;
  const make = (index: number, number: number): ServingRevision =>
    revisionOf(
      `f${index}`,
      {
        concurrency: [1, 1, 8][index % 3]!,
        max: [1, 5, 20][Math.floor(chance() * 3)]!,
        idleSeconds: [0, 5, 60][Math.floor(chance() * 3)]!,
        timeoutSeconds: 2,
      },
      number,
    );
  const revisions = Array.from({ length: 20 }, (_, index) => make(index, 1));
  for (const revision of revisions) stack.deploy(revision);
  for (let event = 0; event < events; event++) {
    const index = Math.floor(chance() ** 2 * revisions.length);
    if (chance() < 0.03) {
      revisions[index] = make(index, revisions[index]!.number + 1);
      stack.deploy(revisions[index]);
    }
    const burst = chance() < 0.05 ? Math.floor(60 * chance()) : 1;
    for (let i = 0; i < burst; i++) {
      const invocation = stack.call(revisions[index]!);
      if (chance() >= 0.03) continue;
      stack.clock.after(200 * chance(), () => {
        stack.aborted.add(invocation.id);
        invocation.abort();
      });
    }
    if (chance() < 0.5) await stack.run(chance() < 0.02 ? 20_000 * chance() : 80 * chance());
  }
  await stack.run(300_000);
  const ends: Record<string, number> = {};
  for (const [id, told] of stack.ends) {
    // A caller that has gone is told nothing more.
    if (told.length > 0 || !stack.aborted.has(id))
      assert.equal(told.length, 1, `seed ${seed}: ${id} ended ${told.length} times: ${told.join(", ")}`);
    const end = told[0]?.slice(0, 60) ?? "aborted";
    ends[end] = (ends[end] ?? 0) + 1;
    assert.ok(stack.metered.has(id), `seed ${seed}: ${id} was not metered to its end`);
  }
  assert.equal(stack.driver.living, 0, `seed ${seed}: sandboxes are left`);
  assert.deepEqual(stack.fleet.instances(), []);
  assert.equal(stack.fleet.state().memoryBytes, 0);
  assert.equal(stack.clock.pending(), 0, `seed ${seed}: timers are left on an idle platform`);
  return ends;
}
