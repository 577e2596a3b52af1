// When containers are asked whether they are well, and what is told of those that are not.

import assert from "node:assert/strict";
import { duplexPair, type Duplex } from "node:stream";
import { test } from "node:test";
import { settle, VirtualClock } from "#lib/virtual-clock.ts";
import { containerDefaults, probeLimits } from "#model/limits.ts";
import type { ContainerRevision } from "#model/workload.ts";
import { Liveness } from "./liveness.ts";
import { newMember, type Member } from "./member.ts";

const { livenessEveryMs: everyMs, livenessFailures } = probeLimits;

function revisionOf(liveness: ContainerRevision["settings"]["liveness"]): ContainerRevision {
  return {
    project: "default",
    workload: "web",
    kind: "container",
    number: 1,
    imageDigest: `sha256:${"0".repeat(64)}`,
    digest: "d",
    settings: {
      ...containerDefaults,
      image: "web",
      command: ["/server"],
      probe: { tcp: true },
      liveness,
      writableMb: 64,
      cpuStrict: false,
      public: true,
      env: {},
      secrets: [],
      egress: "none",
      isolation: "container",
    },
    settingSources: {},
    createdMs: 0,
    createdBy: "test",
    gitCommit: null,
  };
}

/** Answers with the statuses in turn, the last for ever; "nonsense" is none. */
class Watching {
  readonly clock = new VirtualClock();
  readonly asked: string[] = [];
  readonly unwell: string[] = [];
  readonly member: Member;
  readonly liveness: Liveness;

  constructor(answers: ReadonlyArray<number | "nonsense">, path: string | null = "/livez") {
    this.member = newMember(null, revisionOf(path === null ? null : { http: path }), this.clock);
    this.liveness = new Liveness({
      clock: this.clock,
      connect: () => this.#answer(answers[Math.min(this.asked.length, answers.length - 1)]!),
      unwell: (member, failure) => {
        assert.equal(member, this.member);
        this.unwell.push(failure.message);
      },
    });
  }

  #answer(answer: number | "nonsense"): Duplex {
    const [near, far] = duplexPair();
    far.once("data", (head: Buffer) => {
      this.asked.push(head.toString().split("\r\n")[0]!);
      far.end(answer === "nonsense" ? "what?\r\n\r\n" : `HTTP/1.1 ${answer} X\r\ncontent-length: 0\r\n\r\n`);
    });
    return near;
  }

  async pass(ms: number): Promise<void> {
    const untilUs = this.clock.monotonicUs() + ms * 1_000;
    while (this.clock.step(untilUs)) await this.#settled();
    await this.#settled();
  }

  /** The answer comes through streams, a few turns later. */
  async #settled(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await settle();
  }
}

test("an instance that answers well is asked again and again, and not before its time", async () => {
  const w = new Watching([200, 204, 302]);
  w.liveness.watch(w.member);
  await w.pass(everyMs - 1);
  assert.deepEqual(w.asked, []);
  await w.pass(1 + 4 * everyMs);
  assert.deepEqual(
    w.asked,
    Array.from({ length: 5 }, () => "GET /livez HTTP/1.1"),
  );
  assert.deepEqual(w.unwell, []);
});

test("failures in a row end it, told in words; one that answers well in between does not count with them", async () => {
  const w = new Watching([503, 503, 200, "nonsense", 500, 503]);
  w.liveness.watch(w.member);
  await w.pass(5 * everyMs);
  assert.deepEqual(w.unwell, []);
  await w.pass(everyMs);
  assert.deepEqual(w.unwell, [
    `Its liveness probe GET /livez failed ${livenessFailures} times in a row: it answered 503.`,
  ]);
  await w.pass(10 * everyMs);
  assert.equal(w.asked.length, 6, "nobody asks it any more");
});

test("a paused instance is left alone, without a timer, and asked again from its next call on", async () => {
  const w = new Watching([503]);
  w.liveness.watch(w.member);
  w.member.paused = true;
  await w.pass(10 * everyMs);
  assert.deepEqual(w.asked, []);
  assert.equal(w.clock.step(Number.MAX_SAFE_INTEGER), false, "no timer is left");
  w.member.paused = false;
  w.liveness.busy(w.member);
  w.liveness.busy(w.member);
  await w.pass(everyMs);
  assert.equal(w.asked.length, 1);
});

test("one that has gone, and one that does not want it, is never asked", async () => {
  const gone = new Watching([503]);
  gone.liveness.watch(gone.member);
  gone.liveness.leave(gone.member);
  const silent = new Watching([503], null);
  silent.liveness.watch(silent.member);
  silent.liveness.busy(silent.member);
  for (const w of [gone, silent]) {
    await w.pass(5 * everyMs);
    assert.deepEqual(w.asked, []);
  }
});
