// ebb rollback NAME [REVISION]

import type { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";

export async function run({
  arguments: [name = "", revision],
  output,
  project,
  client,
}: CommandContext): Promise<void> {
  const number = revision === undefined ? null : /^r?(\d{1,9})$/.exec(revision)?.[1];
  if (number === undefined) throw new UsageError(`ebb rollback: expected a revision such as r6, found "${revision}"`);
  const row = await (await client()).workloads.rollback(project, name, number === null ? null : Number(number));
  if (output.json) return output.value(row);
  output.line(`${name} serves r${row.revision} again`);
}
