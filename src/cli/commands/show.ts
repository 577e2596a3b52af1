// ebb show NAME

import type { CommandContext } from "../context.ts";
import { ago, scalingWord, stateWord, sanitized } from "../output.ts";

export async function run({ arguments: [name = ""], output, project, client }: CommandContext): Promise<void> {
  const view = await (await client()).workloads.show(project, name);
  if (output.json) return output.value(view);
  const nowMs = Date.now();
  const commit = view.gitCommit === null ? "" : `, commit ${view.gitCommit.slice(0, 12)}`;
  output.line(`${output.style("bold", view.name)}  ${view.kind}  r${view.revision}  ${stateWord(view)}`);
  if (view.url !== null) output.line(`  ${view.url}   ${view.public ? "public" : "private"}`);
  output.line(sanitized(`  deployed ${ago(view.deployed, nowMs)} ago by ${view.deployedBy}${commit}`));
  if (view.scaling !== null) {
    const { last } = view.scaling;
    const why = last && `; ${last.from} -> ${last.to} ${ago(last.time, nowMs)} ago: ${last.reasons.join("; ")}`;
    output.line(sanitized(`  scales by ${scalingWord(view.scaling)}${why ?? ""}`));
  }
  output.line();
  output.table(
    ["SETTING", "VALUE", "FROM"],
    Object.entries(view.settings).map(([key, { value, source }]) => [key, valueText(value), source]),
  );
  output.line();
  if (view.instanceList.length > 0)
    output.table(
      ["INSTANCE", "REV", "STATE", "UP", "ACTIVE", "MEMORY"],
      view.instanceList.map((one) => [
        one.id,
        `r${one.revision}`,
        one.state,
        ago(one.started, nowMs),
        String(one.active),
        `${one.memoryMb} MiB`,
      ]),
    );
  else output.line("no instance runs");
  if (view.lastError === null) return;
  output.line();
  output.line(
    `${output.style("red", "last error")} ${ago(view.lastError.time, nowMs)} ago: ${sanitized(view.lastError.message)}`,
  );
  if (view.lastError.hint !== null) output.line(`  ${sanitized(view.lastError.hint)}`);
  if (view.lastError.stack !== null) output.line(sanitized(view.lastError.stack));
}

function valueText(value: unknown): string {
  if (value === null) return "-";
  return typeof value === "string" ? value : JSON.stringify(value);
}
