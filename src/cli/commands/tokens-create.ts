// ebb tokens create NAME

import type { Scope } from "#model/access.ts";
import type { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";
import { ahead } from "../time.ts";

const scopes: readonly Scope[] = ["admin", "deploy", "read", "invoke"];

export async function run({ arguments: [name = ""], options, output, project, client }: CommandContext): Promise<void> {
  const said = options.text("scope") ?? "invoke";
  const scope = scopes.find((one) => one === said);
  if (!scope) throw new UsageError(`ebb tokens create: --scope: expected ${scopes.join(", ")}, found "${said}"`);
  const expiresMs = ahead("expires", options.text("expires"), Date.now());
  const made = await (await client()).tokens.create(options.flag("all") ? null : project, { name, scope, expiresMs });
  if (output.json) return output.value(made);
  output.note(`token ${made.id} (${scope}); it is shown this once:`);
  output.line(made.token);
}
