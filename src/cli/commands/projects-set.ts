// ebb projects set NAME --memory … --instances … --rate … --egress-permit …

import type { NewProjectSettings } from "#client/client.ts";
import type { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";

export async function run({ arguments: [name = ""], options, output, client }: CommandContext): Promise<void> {
  const read = (option: string): number | null | undefined => {
    const said = options.text(option);
    if (said === null) return undefined;
    return said === "none" ? null : options.number(option);
  };
  const said = { memoryMb: read("memory"), instances: read("instances"), ratePerSecond: read("rate") };
  const permit = options.text("egress-permit");
  const settings: NewProjectSettings = {
    ...Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)),
    ...(permit === null ? {} : { egressPermit: permit === "none" ? null : permit.split(",") }),
  };
  if (Object.keys(settings).length === 0)
    throw new UsageError("ebb projects set needs --memory, --instances, --rate or --egress-permit");
  const project = await (await client()).projects.set(name, settings);
  if (output.json) return output.value(project);
  const words = Object.entries(project.quotas).map(([key, value]) => `${key} ${value ?? "-"}`);
  words.push(`egressPermit ${project.egressPermit.join(",") || "-"}`);
  output.line(`${name}: ${words.join(", ")}`);
}
