// What a command runs with.

import type { ClientEnvironment } from "#config.ts";
import type { Client } from "#client/client.ts";
import type { Output } from "./output.ts";
import type { Options } from "./parse.ts";
import type { Streams } from "./streams.ts";

export interface CommandContext {
  readonly arguments: readonly string[];
  /** What stands behind "--", of a command that passes it on; null: there was none. */
  readonly after: readonly string[] | null;
  readonly options: Options;
  readonly output: Output;
  /** For what asks a person, and for bytes from stdin; what is said goes through `output`. */
  readonly streams: Streams;
  /** --project, or "default". */
  readonly project: string;
  /** --project; null: not said. */
  readonly projectSaid: string | null;
  readonly environment: ClientEnvironment;
  /** Finds the daemon (Failure when there is none). */
  readonly client: () => Promise<Client>;
}
