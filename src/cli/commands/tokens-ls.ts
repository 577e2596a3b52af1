// ebb tokens ls

import type { CommandContext } from "../context.ts";

export async function run({ options, output, project, client }: CommandContext): Promise<void> {
  const rows = await (await client()).tokens.list(options.flag("all") ? null : project);
  if (output.json) return output.value(rows);
  output.table(
    ["ID", "NAME", "PROJECT", "SCOPE", "CREATED", "EXPIRES"],
    rows.map((row) => [row.id, row.name, row.project ?? "(all)", row.scope, row.created, row.expires ?? "never"]),
  );
}
