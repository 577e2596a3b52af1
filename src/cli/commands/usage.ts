// ebb usage

import type { CommandContext } from "../context.ts";
import { figure } from "../output.ts";
import { past } from "../time.ts";

export async function run({ options, output, project, client }: CommandContext): Promise<void> {
  const since = past("since", options.text("since"), Date.now());
  const view = await (await client()).usage(options.flag("all") ? null : project, since === null ? {} : { since });
  if (output.json) return output.value(view);
  output.table(
    ["DAY", "PROJECT", "WORKLOAD", "REQUESTS", "ERRORS", "BILLED s", "GB-s", "vCPU-s"],
    view.rows.map((row) => [
      row.day,
      row.project,
      row.workload,
      String(row.requests),
      String(row.errors),
      figure(row.billedMs / 1000),
      figure(row.gbSeconds),
      figure(row.vcpuSeconds),
    ]),
  );
  const from = view.oldestRecord === null ? "" : `; the oldest is of ${view.oldestRecord}`;
  output.line(`single invocations and logs are kept ${view.keptDays} days${from}; these totals 25 months`);
}
