// ebb doctor

import type { CommandContext } from "../context.ts";
import { isBad, type Finding } from "../doctor/check.ts";
import { checks } from "../doctor/checks.ts";
import { Failure } from "../failure.ts";

export async function run({ output }: CommandContext): Promise<void> {
  const findings: Finding[] = [];
  for (const check of checks) findings.push(...(await check()));
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
      `${bad.length} of ${findings.length} are not as ebb needs them: ${bad.map(({ what }) => what).join(", ")}`,
    );
}
