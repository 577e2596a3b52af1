// ebb doctor

import { dataDirectory } from "#config.ts";
import type { CommandContext } from "../context.ts";
import { isBad, type Finding } from "../doctor/check.ts";
import { anywhereChecks, checks } from "../doctor/checks.ts";
import { Failure } from "../failure.ts";

export async function run({ options, output, environment }: CommandContext): Promise<void> {
  const machine = {
    path: environment.path,
    root: process.getuid?.() === 0,
    dataDirectory: dataDirectory(options.text("data") ?? environment.data),
  };
  const findings: Finding[] = [];
  for (const check of process.platform === "linux" ? checks : anywhereChecks) findings.push(...(await check(machine)));
  const bad = findings.filter(isBad);
  if (output.json) output.value(findings);
  else
    for (const { what, verdict, found, remedy } of findings) {
      const color = isBad({ what, verdict, found, remedy }) ? "red" : verdict === "note" ? "yellow" : "green";
      output.line(`${what.padEnd(16)} ${output.style(color, verdict.padEnd(8))} ${found}`);
      if (remedy !== null) output.line(`${" ".repeat(17)}${remedy}`);
    }
  if (bad.length > 0)
    throw new Failure(
      `${bad.length} of ${findings.length} ${bad.length === 1 ? "is" : "are"} not as ebb needs: ${bad.map(({ what }) => what).join(", ")}`,
    );
}
