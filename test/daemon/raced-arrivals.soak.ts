// Requests that come in the moment in which their function's instance is let go: each is answered, once, by code that is there.
// EBB_ARRIVALS: how many (10,000); EBB_SEED: which moments.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../simulation/chance.ts";
import { type Daemon, endDeployed, eventually, folderOf, startDeployed } from "./fixture.ts";

const arrivals = Number(process.env["EBB_ARRIVALS"] ?? 10_000);
const seed = Number(process.env["EBB_SEED"] ?? Date.now() % 1_000_000);
const chance = seeded(seed);

/** Functions of each idle time: those of a second are many, since each of their arrivals takes one. */
const kinds = { 0: 2, 1: 6 } as const;
/** Around the idle time, when the next arrival is due: before it is over, while the instance is told, while it ends, and after. */
const earlyMs = 15;
const lateMs = 60;

const functions = Object.entries(kinds).flatMap(([idleSeconds, count]) =>
  Array.from({ length: count }, (_, i) => ({ name: `idle-${idleSeconds}-${i}`, idleSeconds: Number(idleSeconds) })),
);
const code = folderOf({
  "ebb.yaml": `functions:
${functions.map(({ name, idleSeconds }) => `  ${name}: { source: ./counts, public: true, memoryMb: 128, idleSeconds: ${idleSeconds} }`).join("\n")}
`,
  "counts/index.mjs": `const instance = crypto.randomUUID();
let calls = 0;
export default () => new Response(JSON.stringify({ instance, call: ++calls }));`,
});

let daemon: Daemon;

before(async () => {
  daemon = await startDeployed(code, { args: ["--pool", "512"] });
});
after(() => endDeployed(daemon, code));

test(`no request is lost in ${arrivals} arrivals at the moment of stopping (seed ${seed})`, async (t) => {
  const ids = new Set<string>();
  const runs = new Set<string>();
  let [sent, warm] = [0, 0];
  const caller = async ({ name, idleSeconds }: (typeof functions)[number]): Promise<void> => {
    while (sent < arrivals) {
      sent++;
      const { status, headers, text } = await daemon.fetch(`${name}.localhost`, "/");
      assert.equal(status, 200, `${name}: ${text}`);
      const { instance, call } = JSON.parse(text) as { instance: string; call: number };
      if (call > 1) warm++;
      ids.add(String(headers["ebb-invocation-id"]));
      runs.add(`${instance} ${call}`);
      await sleep(Math.max(0, idleSeconds * 1_000 - earlyMs + (earlyMs + lateMs) * chance()));
    }
  };
  await Promise.all(functions.map(caller));
  t.diagnostic(`${sent} answered, ${warm} of them by an instance that was there still`);
  assert.equal(runs.size, sent, "a run of the code answered twice");
  assert.equal(ids.size, sent);
  await eventually("nothing runs", async () => {
    const rows = await daemon.json<{ instances: number }[]>(["ls"]);
    return rows.every(({ instances }) => instances === 0);
  });
  // Every call ran once: what was tried again ran nowhere before.
  const used = await eventually("the records are folded", async () => {
    const { rows } = await daemon.json<{ rows: { requests: number }[] }>(["usage"]);
    const requests = rows.reduce((sum, row) => sum + row.requests, 0);
    return requests >= sent ? requests : null;
  });
  assert.equal(used, sent);
});
