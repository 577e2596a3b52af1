// ebb revisions NAME

import type { CommandContext } from "../context.ts";
import { sanitized } from "../output.ts";

export async function run({ arguments: [name = ""], output, project, client }: CommandContext): Promise<void> {
  const rows = await (await client()).workloads.revisions(project, name);
  if (output.json) return output.value(rows);
  output.table(
    ["REV", "", "DEPLOYED", "BY", "COMMIT", "RUNS"],
    rows.map((row) => [
      `r${row.revision}`,
      row.current ? "serves" : "",
      row.created,
      row.createdBy,
      row.gitCommit?.slice(0, 12) ?? "-",
      row.runtime ?? sanitized(row.image ?? "-"),
    ]),
  );
}
