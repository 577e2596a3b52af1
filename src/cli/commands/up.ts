// ebb up: the daemon, in the foreground.

import type { CommandContext } from "../context.ts";
import { runDaemon } from "../daemon.ts";

export function run(context: CommandContext): Promise<void> {
  return runDaemon(context);
}
