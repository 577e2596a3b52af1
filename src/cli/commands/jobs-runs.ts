// ebb jobs runs NAME

import type { CommandContext } from "../context.ts";
import { ago } from "../output.ts";
import { ranFor, runState } from "../run-words.ts";

export async function run({ arguments: [name = ""], options, output, project, client }: CommandContext): Promise<void> {
  const limit = options.number("limit");
  const rows = await (await client()).runs.list(project, name, limit === null ? {} : { limit });
  if (output.json) return output.value(rows);
  if (rows.length === 0) return output.line(`${name} has not been run; run it: ebb jobs run ${name}`);
  const nowMs = Date.now();
  output.table(
    ["RUN", "REV", "AGE", "RAN", "TASKS", "TRIES", "STATE"],
    rows.map((row) => [
      row.id,
      `r${row.revision}`,
      ago(row.created, nowMs),
      ranFor(row, nowMs),
      `${row.tasks.filter(({ state }) => state === "succeeded").length}/${row.tasks.length}`,
      String(row.tasks.reduce((sum, { attempts }) => sum + attempts, 0)),
      runState(row),
    ]),
  );
}
