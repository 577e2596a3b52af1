// ebb projects set NAME --memory … --instances … --rate …

import type { Quotas } from "#client/client.ts";
import type { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";

export async function run({ arguments: [name = ""], options, output, client }: CommandContext): Promise<void> {
  const read = (option: string): number | null | undefined => {
    const said = options.text(option);
    if (said === null) return undefined;
    return said === "none" ? null : options.number(option);
  };
  const said = { memoryMb: read("memory"), instances: read("instances"), ratePerSecond: read("rate") };
  const quotas: Partial<Quotas> = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  if (Object.keys(quotas).length === 0) throw new UsageError("ebb projects set needs --memory, --instances or --rate");
  const project = await (await client()).projects.set(name, quotas);
  if (output.json) return output.value(project);
  const words = Object.entries(project.quotas).map(([key, value]) => `${key} ${value ?? "-"}`);
  output.line(`${name}: ${words.join(", ")}`);
}
