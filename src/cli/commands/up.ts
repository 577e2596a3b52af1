// ebb up: the daemon, in the foreground.

import type { CommandContext } from "../context.ts";
import { runDaemon } from "../daemon.ts";

export function run({ options }: CommandContext): Promise<void> {
  return runDaemon(options);
}
