// ebb jobs run NAME [-- ARGS]

import type { Client, RunRow } from "#client/client.ts";
import type { CommandContext } from "../context.ts";
import { Failure, UsageError } from "../failure.ts";
import { sanitized, type Output } from "../output.ts";
import { runState } from "../run-words.ts";

const waitSeconds = 30;

export async function run(context: CommandContext): Promise<void> {
  const {
    arguments: [name = ""],
    after,
    options,
    output,
    project,
    client,
  } = context;
  const env: Record<string, string> = {};
  for (const pair of options.many("env")) {
    const at = pair.indexOf("=");
    if (at < 1) throw new UsageError(`ebb jobs run: --env: expected K=V, found "${pair}"`);
    env[pair.slice(0, at)] = pair.slice(at + 1);
  }
  const api = await client();
  const accepted = await api.runs.start(project, name, {
    env,
    args: after,
    memoryMb: options.number("memory"),
    parallelism: options.number("parallelism"),
  });
  const wait = options.flag("wait");
  if (!wait && output.json) return output.value(accepted);
  output.line(`run ${accepted.id} of ${name} (r${accepted.revision})`);
  if (!wait) return;
  const ended = await waited(api, project, accepted, output);
  if (output.json) output.value(ended);
  else output.line(sanitized(runState(ended)));
  if (ended.state !== "succeeded")
    throw new Failure(`run ${ended.id} ${ended.state}; see: ebb logs ${name} --run ${ended.id}`);
}

async function waited(api: Client, project: string, run: RunRow, output: Output): Promise<RunRow> {
  let latest = run;
  while (latest.ended === null) {
    output.status(`${latest.state} …`);
    latest = await api.runs.show(project, run.id, waitSeconds);
  }
  output.status(null);
  return latest;
}
