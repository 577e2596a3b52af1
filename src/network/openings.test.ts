// What is written to the firewall's sets, against a firewall that is a map: how often, how much, and that it is all taken away.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { VirtualClock, settle } from "#lib/virtual-clock.ts";
import { grantsOf, permitsOf } from "#model/egress.ts";
import { resolverLimits } from "#model/limits.ts";
import { Openings, type Answered } from "./openings.ts";

/** Its lines are transactions: all of one is done, or none; what is not there cannot be deleted. */
class Firewall {
  readonly clock = new VirtualClock();
  /** "set element" to the time at which it ends. */
  elements = new Map<string, number>();
  readonly scripts: string[] = [];
  failing = false;

  readonly nft = async (script: string): Promise<void> => {
    this.scripts.push(script);
    await Promise.resolve();
    if (this.failing) throw new Error("made to fail");
    for (const line of script.split("\n")) {
      const after = new Map([...this.elements].filter(([, untilUs]) => untilUs > this.clock.monotonicUs()));
      for (const command of line.split("; ")) this.#run(command, after);
      this.elements = after;
    }
  };

  #run(command: string, elements: Map<string, number>): void {
    const [, verb, set, list] = /^(add|delete) element inet t (\w+) \{ (.+) \}$/.exec(command) ?? assert.fail(command);
    for (const text of list!.split(", ")) {
      const [, element, seconds] = /^(.+?)(?: timeout (\d+)s)?$/.exec(text)!;
      const key = `${set} ${element}`;
      if (verb === "delete") assert.ok(elements.delete(key), `${key} is not there`);
      else if (!elements.has(key))
        elements.set(key, seconds ? this.clock.monotonicUs() + Number(seconds) * 1_000_000 : Infinity);
    }
  }

  open(link: string): readonly string[] {
    const nowUs = this.clock.monotonicUs();
    return [...this.elements].flatMap(([key, untilUs]) =>
      untilUs > nowUs && key.includes(` ${link} . `) ? [key.split(` ${link} . `)[1]!] : [],
    );
  }

  openings(): Openings {
    return new Openings({ nft: this.nft, table: "t", clock: this.clock, openSeconds: { min: 60, max: 3_600 } });
  }
}

const link = "198.18.0.3";
const at = (address: string, number = 443): Answered => ({ address, port: { protocol: "tcp", number } });
const list = (...texts: readonly string[]) => grantsOf(texts, permitsOf(["10.0.0.0/8"]));

void test("what many ask for while something is written goes with the next write", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  const links = Array.from({ length: 50 }, (_, i) => `198.18.1.${i}`);
  for (const one of links) await openings.grant(one, []);
  const first = openings.open(links[0]!, [at("20.0.0.1")], 60);
  await Promise.resolve();
  await Promise.all([first, ...links.map((one, i) => openings.open(one, [at(`20.0.1.${i}`)], 60))]);
  assert.equal(firewall.scripts.length, 2);
  for (const [i, one] of links.entries()) assert.ok(firewall.open(one).includes(`20.0.1.${i} . tcp . 443`));
});

void test("an address that is told again and again is written twice a minute, and stays open all the time", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, []);
  for (let second = 0; second < 600; second++) {
    await openings.open(link, [at("20.0.0.1")], 1);
    assert.deepEqual(firewall.open(link), ["20.0.0.1 . tcp . 443"], `in second ${second}`);
    await firewall.clock.advance(1_000);
  }
  assert.ok(firewall.scripts.length <= 20, `${firewall.scripts.length} writes`);
  await firewall.clock.advance(90_000);
  assert.deepEqual(firewall.open(link), []);
});

void test("of more openings than an instance may have, those that end first give way", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, []);
  const most = resolverLimits.openings;
  for (let i = 0; i < most + 10; i++) await openings.open(link, [at(`20.0.${i >> 8}.${i & 255}`)], 60 + i);
  await settle();
  const open = new Set(firewall.open(link));
  assert.equal(open.size, most);
  for (let i = 0; i < 10; i++) assert.ok(!open.has(`20.0.0.${i} . tcp . 443`));
});

void test("grants that change are replaced in one transaction, which holds nothing but what changes", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, list("10.1.0.0/16:80", "10.2.0.0/16:80"));
  await openings.grant(link, list("10.2.0.0/16:80", "10.3.0.0/16:80"));
  await openings.grant(link, list("10.2.0.0/16:80", "10.3.0.0/16:80"));
  assert.deepEqual(firewall.open(link), ["10.2.0.0/16 . tcp . 80", "10.3.0.0/16 . tcp . 80"]);
  assert.equal(firewall.scripts.length, 2);
  assert.doesNotMatch(firewall.scripts[1]!, /10\.2\.|\n/);
});

void test("who opens is told of a failure, and the next one writes it again", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, []);
  firewall.failing = true;
  await assert.rejects(openings.open(link, [at("20.0.0.1")], 60), /made to fail/);
  firewall.failing = false;
  await openings.open(link, [at("20.0.0.1")], 60);
  assert.deepEqual(firewall.open(link), ["20.0.0.1 . tcp . 443"]);
});

void test("what is granted is written again after a change that failed, and what was to go goes", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, list("10.1.0.0/16:80"));
  firewall.failing = true;
  await assert.rejects(openings.grant(link, list("10.2.0.0/16:80")), /made to fail/);
  firewall.failing = false;
  await openings.grant(link, list("10.2.0.0/16:80"));
  assert.deepEqual(firewall.open(link), ["10.2.0.0/16 . tcp . 80"]);
});

test("of what may stand after a change that failed each goes by itself: one may lie within another", async () => {
  const firewall = new Firewall();
  const openings = firewall.openings();
  await openings.grant(link, list("10.1.0.0/16:80"));
  firewall.failing = true;
  await assert.rejects(openings.grant(link, list("10.0.0.0/8:80")), /made to fail/);
  const lines = openings.forget(link);
  assert.deepEqual(
    lines.map((line) => line.match(/10\.[\d./]+/g)),
    [
      ["10.1.0.0/16", "10.1.0.0/16"],
      ["10.0.0.0/8", "10.0.0.0/8"],
    ],
  );
});

const target = fc.constantFrom("20.0.0.1", "20.0.0.2", "10.0.0.5", "10.1.0.7");
const step = fc.oneof(
  fc.record({ do: fc.constant("open" as const), to: target, ttl: fc.integer({ min: 0, max: 200 }) }),
  fc.record({
    do: fc.constant("grant" as const),
    texts: fc.subarray(["10.1.0.0/16:80", "10.2.0.0/16:80", "20.0.0.0/24:53/udp"]),
  }),
  fc.record({ do: fc.constant("close" as const), to: target }),
  fc.record({ do: fc.constant("wait" as const), seconds: fc.integer({ min: 1, max: 120 }) }),
  fc.record({ do: fc.constant("fail" as const), failing: fc.boolean() }),
);

void test("whatever was opened, closed or failed: what is asked for is open, and with the link all of it goes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(step, fc.boolean()), { maxLength: 40 }), async (steps) => {
      const firewall = new Firewall();
      const openings = firewall.openings();
      await openings.grant(link, []);
      let granted: readonly string[] = [];
      for (const [one, waited] of steps) {
        const doing =
          one.do === "open"
            ? openings.open(link, [at(one.to)], one.ttl)
            : one.do === "grant"
              ? openings.grant(link, list(...one.texts))
              : one.do === "close"
                ? openings.close(link, ({ address }) => address !== one.to)
                : one.do === "wait"
                  ? firewall.clock.advance(one.seconds * 1_000)
                  : Promise.resolve((firewall.failing = one.failing));
        const done = doing.then(
          () => true,
          () => false,
        );
        if (!waited || !(await done)) continue;
        const open = firewall.open(link);
        if (one.do === "open") assert.ok(open.includes(`${one.to} . tcp . 443`));
        if (one.do === "close") assert.ok(!open.includes(`${one.to} . tcp . 443`));
        if (one.do === "grant")
          granted = list(...one.texts).map(({ port }) => ` . ${port!.protocol} . ${port!.number}`);
        if (one.do === "grant") assert.equal(open.filter((text) => text.includes("/")).length, granted.length);
      }
      const lines = openings.forget(link);
      await settle();
      firewall.failing = false;
      if (lines.length > 0) await firewall.nft(lines.join("\n"));
      if (lines.length > 0) await firewall.nft(lines.join("\n"));
      await settle();
      assert.deepEqual(firewall.open(link), []);
      await openings.open(link, [at("20.0.0.9")], 60);
      assert.deepEqual(firewall.open(link), []);
    }),
  );
});
