// ebb projects ls

import type { CommandContext } from "../context.ts";

export async function run({ output, client }: CommandContext): Promise<void> {
  const rows = await (await client()).projects.list();
  if (output.json) return output.value(rows);
  output.table(
    ["NAME", "WORKLOADS", "MEMORY", "INSTANCES", "RATE", "EGRESS PERMIT"],
    rows.map(({ name, workloads, quotas, egressPermit }) => [
      name,
      String(workloads),
      quota(quotas.memoryMb, " MiB"),
      quota(quotas.instances),
      quota(quotas.ratePerSecond, "/s"),
      egressPermit.join(",") || "-",
    ]),
  );
}

function quota(value: number | null, unit = ""): string {
  return value === null ? "-" : `${value}${unit}`;
}
