// ebb audit

import type { CommandContext } from "../context.ts";
import { past } from "../time.ts";

export async function run({ options, output, project, client }: CommandContext): Promise<void> {
  const since = past("since", options.text("since"), Date.now());
  const limit = options.number("limit");
  const rows = await (
    await client()
  ).audit(options.flag("all") ? null : project, {
    ...(since === null ? {} : { since }),
    ...(limit === null ? {} : { limit }),
  });
  if (output.json) return output.value(rows);
  output.table(
    ["TIME", "WHO", "COMMAND", "PROJECT", "TARGET", "OUTCOME", "DETAIL"],
    rows.map((row) => [
      row.time,
      row.identity,
      row.command,
      row.project ?? "-",
      row.target ?? "-",
      row.outcome,
      row.detail,
    ]),
  );
}
