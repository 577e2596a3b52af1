// ebb logs [NAME] [-f]

import type { CommandContext } from "../context.ts";
import { followLogs, printLog } from "../show-logs.ts";
import { past } from "../time.ts";

export async function run({ arguments: [name], options, output, project, client }: CommandContext): Promise<void> {
  const since = past("since", options.text("since"), Date.now());
  const limit = options.number("limit");
  const invocation = options.text("invocation");
  const ofRun = options.text("run");
  const query = {
    ...(name === undefined ? {} : { workload: name }),
    ...(invocation === null ? {} : { invocation }),
    ...(ofRun === null ? {} : { run: ofRun }),
    ...(since === null ? {} : { since }),
    ...(limit === null ? {} : { limit }),
  };
  const api = await client();
  if (!options.flag("follow")) {
    for (const row of await api.logs(project, query)) printLog(output, row);
    return;
  }
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  process.once("SIGTERM", () => stop.abort());
  await followLogs(api, output, project, query, stop.signal);
}
