// ebb invocations NAME

import type { CommandContext } from "../context.ts";
import { figure } from "../output.ts";
import { past } from "../time.ts";

export async function run({ arguments: [name = ""], options, output, project, client }: CommandContext): Promise<void> {
  const since = past("since", options.text("since"), Date.now());
  const limit = options.number("limit");
  const api = await client();
  const rows = await api.workloads.invocations(project, name, {
    ...(since === null ? {} : { since }),
    ...(limit === null ? {} : { limit }),
  });
  if (output.json) return output.value(rows);
  // An empty list of what does not exist would hide a typing error.
  if (rows.length === 0) {
    await api.workloads.show(project, name);
    return output.line(`${name} was not invoked`);
  }
  output.table(
    ["TIME", "ID", "TRIGGER", "OUTCOME", "STATUS", "COLD", "QUEUED", "START", "RAN", "BILLED", "REV"],
    rows.map((row) => [
      row.time,
      row.id,
      row.trigger,
      row.outcome,
      row.status === null ? "-" : String(row.status),
      row.cold ? "cold" : "",
      `${figure(row.queuedMs)} ms`,
      `${figure(row.startMs)} ms`,
      `${figure(row.durationMs)} ms`,
      `${figure(row.billedMs)} ms`,
      row.revision === null ? "-" : `r${row.revision}`,
    ]),
  );
}
