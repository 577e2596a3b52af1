// ebb use [NAME]

import { nearest } from "#lib/nearest.ts";
import type { CommandContext } from "../context.ts";
import { readContexts, writeContexts } from "../contexts.ts";
import { Failure } from "../failure.ts";

export async function run({ arguments: [name], options, output, environment }: CommandContext): Promise<void> {
  const { current, saved } = readContexts(environment.contextDirectory);
  if (options.flag("none")) {
    writeContexts(environment.contextDirectory, { current: null, saved });
    return output.json ? output.value({ current: null }) : output.line("no context is chosen");
  }
  if (name === undefined) {
    const rows = Object.entries(saved).map(([one, { url }]) => ({ name: one, url, current: one === current }));
    if (output.json) return output.value(rows);
    return output.table(
      ["", "NAME", "URL"],
      rows.map((row) => [row.current ? "*" : "", row.name, row.url]),
    );
  }
  if (!Object.hasOwn(saved, name)) {
    const near = nearest(name, Object.keys(saved));
    throw new Failure(
      `there is no context "${name}"${near ? `; did you mean "${near}"?` : "; make one: ebb login URL"}`,
    );
  }
  writeContexts(environment.contextDirectory, { current: name, saved });
  return output.json ? output.value({ current: name }) : output.line(`${name} is used from now on`);
}
