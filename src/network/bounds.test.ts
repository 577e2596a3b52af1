// What one sandbox may take of the machine's connections, on a machine of its own (a network namespace), and that the others keep theirs.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { linkLimits } from "#model/limits.ts";
import type { Network } from "./door.ts";
import { createNetwork } from "./network.ts";
import {
  cannotRun,
  insideMachine,
  PlainAllocator,
  PlainSpawner,
  probe,
  startWorld,
  stopChild,
  world,
} from "./testing/machine.ts";

const why = cannotRun();
if (why !== null) void test("the bounds of a sandbox's connections", { skip: why }, () => {});
else if (insideMachine()) void describe("the bounds of a sandbox's connections", suite);

function suite(): void {
  let others: ChildProcess;
  let network: Network;
  const folder = mkdtempSync(join(tmpdir(), "ebb-network-"));
  before(async () => {
    others = await startWorld();
    network = createNetwork({
      spawner: new PlainSpawner(),
      allocator: new PlainAllocator(folder),
      clock: systemClock,
      tell: (fact) => assert.fail(JSON.stringify(fact)),
      resolvers: () => [world.public],
      searchDomains: () => [],
      projectAt: () => null,
    });
    await network.start();
  });
  after(async () => {
    await network.stop();
    await stopChild(others);
    rmSync(folder, { recursive: true, force: true });
  });

  void test("to ebb.internal it holds its share open and no more", async (context) => {
    const most = linkLimits.internalConnections;
    const held = Promise.withResolvers<void>();
    let open = 0;
    const internal = createServer((socket) => {
      socket.on("error", () => {}).resume();
      if (++open === most) held.resolve();
    }).listen(network.internalPort, network.gateway, 4_096);
    await once(internal, "listening");
    context.after(() => internal.close());
    const [greedy, other] = await Promise.all([network.take("none"), network.take("none")]);
    const holding = probe(greedy.namespacePath, [{ do: "hold", host: network.gateway, count: most + 100, ms: 2_500 }]);
    await held.promise;
    const [answer] = await probe(other.namespacePath, [{ do: "open", host: network.gateway, port: 80 }]);
    assert.equal(answer?.result, "open");
    assert.equal((await holding)[0]?.result, String(most));
  });

  void test("to the world it sends at its rate, and gets at the same: what is more is dropped", async () => {
    const slow = createNetwork({
      spawner: new PlainSpawner(),
      allocator: new PlainAllocator(join(folder, "slow")),
      clock: systemClock,
      tell: (fact) => assert.fail(JSON.stringify(fact)),
      resolvers: () => [world.public],
      searchDomains: () => [],
      projectAt: () => null,
      spare: { internet: 2, none: 0 },
      bytesPerSecond: 1,
    });
    await slow.start();
    try {
      const [sends, gets, quick] = await Promise.all([
        slow.take("internet"),
        slow.take("internet"),
        network.take("internet"),
      ]);
      const burst = { do: "burst", host: world.public, count: 150, ms: 2_000 } as const;
      const large = "00".repeat(1_400);
      const [sent, got, all] = await Promise.all([
        probe(sends.namespacePath, [{ ...burst, port: 9999, hex: large }]),
        probe(gets.namespacePath, [{ ...burst, port: 9998 }]),
        probe(quick.namespacePath, [{ ...burst, port: 9999, hex: large }]),
      ]);
      // 128 KiB at once, of datagrams with their heads
      const most = Math.floor((128 * 1_024) / (1_400 + 28));
      for (const [direction, result] of Object.entries({ sent, got })) {
        const answered = Number(result[0]?.result);
        assert.ok(answered > most / 2 && answered <= most, `${direction}: ${answered}, ${most} at most`);
      }
      assert.ok(Number(all[0]?.result) > most, `without the bound: ${all[0]?.result}`);
    } finally {
      await slow.stop();
    }
  });

  void test("to the world it opens them at its rate, however many it tries", async () => {
    const [greedy, other] = await Promise.all([network.take("internet"), network.take("internet")]);
    const count = 3 * linkLimits.newConnectionsBurst;
    const [flood] = await probe(greedy.namespacePath, [
      { do: "flows", host: world.public, port: 9999, count, ms: 500 },
    ]);
    const [answer] = await probe(other.namespacePath, [{ do: "udp", host: world.public, port: 9999 }]);
    assert.equal(answer?.result, `udp ${world.machine}`);
    const answered = Number(flood?.result);
    const { newConnectionsBurst: burst, newConnectionsPerSecond: rate } = linkLimits;
    const most = burst + (rate * flood!.ms) / 1_000;
    assert.ok(answered > burst / 2 && answered <= most, `${answered} of ${count}, ${most} at most`);
  });
}
