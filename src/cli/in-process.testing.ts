// For tests: a command line in the test's own process. One of its own is most of what a command costs.

import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { main } from "./main.ts";

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** For what ends by itself; signals, terminals, the daemon itself and `open`, which starts a browser, are a process's. */
export async function runInProcess(
  argv: readonly string[],
  options: { stdin?: string | undefined; environment: NodeJS.ProcessEnv },
): Promise<CommandResult> {
  const stdin = new PassThrough().end(options.stdin ?? "");
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const said = Promise.all([text(stdout), text(stderr)]);
  const code = await main(argv, { streams: { stdin, stdout, stderr }, environment: options.environment });
  stdout.end();
  stderr.end();
  const [out, err] = await said;
  return { code, stdout: out, stderr: err };
}
