// ebb secrets ls

import type { CommandContext } from "../context.ts";

export async function run({ output, project, client }: CommandContext): Promise<void> {
  const rows = await (await client()).secrets.list(project);
  if (output.json) return output.value(rows);
  output.table(
    ["NAME", "VERSION", "UPDATED"],
    rows.map((row) => [row.name, String(row.version), row.updated]),
  );
}
