// How long a saved change takes until it serves: `ebb dev` watching a folder, from the write to the first answer of the new code.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { installation } from "#config.ts";
import { eventually, folderOf, removeDirectory } from "../test/daemon/fixture.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import type { World } from "./world.ts";

const servesMs = 1_000;
const rounds = 10;
const workload = "saved";

const app = `functions:\n  ${workload}: { source: ./code, public: true, memoryMb: 128, idleSeconds: 1 }\n`;
/** TypeScript, so that its transpiling is within the time. */
const source = (round: number): string =>
  `const round: number = ${round};\nexport default () => new Response(\`\${round}\`);\n`;

export async function redeploy(world: World): Promise<Row> {
  const folder = folderOf({ "ebb.yaml": app, "code/index.ts": source(0) });
  const dev = spawn(join(installation, "ebb"), ["dev", folder, "--data", world.daemon.directory], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const serves = (round: number): Promise<true> =>
    eventually(`round ${round} serves`, async () => {
      const { text } = await world.daemon.fetch(`${workload}.localhost`, "/");
      return text === String(round);
    });
  const times: number[] = [];
  try {
    await serves(0);
    for (let round = 1; round <= rounds; round++) {
      const saved = performance.now();
      writeFileSync(join(folder, "code/index.ts"), source(round));
      await serves(round);
      times.push(performance.now() - saved);
    }
  } finally {
    dev.kill("SIGTERM");
    if (dev.exitCode === null) await once(dev, "exit");
    removeDirectory(folder);
  }
  const ascending = times.toSorted((a, b) => a - b);
  return {
    number: "`ebb dev`: from a saved TypeScript file to the new code's first answer, p50",
    target: `≤ ${inMs(servesMs, 0)}`,
    floor: "–",
    seen: `${inMs(median(times), 0)} (worst ${inMs(percentile(ascending, 100), 0)}, n=${times.length})`,
    held: median(times) <= servesMs,
  };
}
