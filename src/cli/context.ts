// What a command runs with.

import type { ClientEnvironment } from "#config.ts";
import type { Client } from "#client/client.ts";
import type { Output } from "./output.ts";
import type { Options } from "./parse.ts";

export interface CommandContext {
  readonly arguments: readonly string[];
  /** What stands behind "--", of a command that passes it on; null: there was none. */
  readonly after: readonly string[] | null;
  readonly options: Options;
  readonly output: Output;
  /** --project, or "default". */
  readonly project: string;
  /** --project; null: not said. */
  readonly projectSaid: string | null;
  readonly environment: ClientEnvironment;
  /** Finds the daemon (Failure when there is none). */
  readonly client: () => Promise<Client>;
}
