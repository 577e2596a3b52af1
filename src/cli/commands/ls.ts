// ebb ls

import type { WorkloadRow } from "#client/client.ts";
import type { CommandContext } from "../context.ts";
import { ago, scalingWord, stateWord } from "../output.ts";

export async function run({ output, project, client }: CommandContext): Promise<void> {
  const rows = await (await client()).workloads.list(project);
  if (output.json) return output.value(rows);
  if (rows.length === 0)
    return output.line(`nothing is deployed in project ${project}; try: ebb deploy examples/hello`);
  const nowMs = Date.now();
  // The usual is not said of everybody.
  const told = rows.some(({ scaling }) => scaling !== null && scaling.by !== "requests");
  output.table(
    ["NAME", "KIND", "REV", "STATE", "UP", ...(told ? ["BY"] : []), "LAST", "ERR/1h", "URL"],
    rows.map((row) => [
      row.name,
      row.isolation === "gvisor" ? `${row.kind} (gvisor)` : row.kind,
      `r${row.revision}`,
      stateOf(row),
      `${row.instances}/${row.max}`,
      ...(told ? [scalingWord(row.scaling)] : []),
      ago(row.lastActive, nowMs),
      String(row.errorsLastHour),
      row.url ?? "-",
    ]),
  );
  if (rows.some(({ isolation }) => isolation === "none"))
    output.note("isolation none: functions run as plain processes of this machine, nothing is isolated");
}

function stateOf(row: WorkloadRow): string {
  const state = stateWord(row);
  return row.isolation === "none" ? `${state} (not isolated)` : state;
}
