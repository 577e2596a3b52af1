// Runs one command line: finds the command, imports it alone, and turns what goes wrong into a line and an exit code.

import { ConfigError, readClientEnvironment, readVersion } from "#config.ts";
import { defaultProject } from "#model/names.ts";
import type { CommandContext } from "./context.ts";
import { Failure, UsageError } from "./failure.ts";
import { createOutput, sanitized } from "./output.ts";
import { findCommand, parseCommand, type Options } from "./parse.ts";
import type { CommandSpec } from "./spec.ts";
import type { Streams } from "./streams.ts";
import { commands } from "./table.ts";

/** What a command line has around it. */
interface Surroundings {
  readonly streams: Streams;
  /** Left out: the process's own. */
  readonly environment?: NodeJS.ProcessEnv;
}

/** The exit code. */
export async function main(argv: readonly string[], around: Surroundings): Promise<number> {
  try {
    return await dispatch(argv, around);
  } catch (error) {
    return await report(error, around.streams);
  }
}

async function dispatch(argv: readonly string[], around: Surroundings): Promise<number> {
  const { streams } = around;
  if (argv.includes("--version") && argv.length === 1) {
    streams.stdout.write(`${readVersion()}\n`);
    return 0;
  }
  const words = argv[0] === "help" ? [...argv.slice(1), "--help"] : argv;
  const found = findCommand(words, commands);
  if (!found) {
    const { overview } = await import("./help.ts");
    const asked = words.some((word) => word === "--help" || word === "-h");
    (asked ? streams.stdout : streams.stderr).write(`${overview(commands, readVersion())}\n`);
    return asked ? 0 : 2;
  }
  const { options, arguments: given, after } = parseCommand(found.command, found.rest);
  if (options.flag("help")) {
    const { commandHelp } = await import("./help.ts");
    streams.stdout.write(`${commandHelp(found.command)}\n`);
    return 0;
  }
  await run(found.command, given, after, options, around);
  return 0;
}

async function run(
  command: CommandSpec,
  given: readonly string[],
  after: readonly string[] | null,
  options: Options,
  around: Surroundings,
): Promise<void> {
  const { streams } = around;
  const environment = readClientEnvironment(around.environment);
  // `invoke --data` is the body, as its users expect; the data directory is then the environment's.
  const data = command.options?.["data"] ? null : options.text("data");
  const context: CommandContext = {
    arguments: given,
    after,
    options,
    output: createOutput(streams, { ...environment, json: options.flag("json") }),
    streams,
    project: options.text("project") ?? defaultProject,
    projectSaid: options.text("project"),
    environment,
    client: async () => {
      const [{ createClient }, { findDaemon }, { send }] = await Promise.all([
        import("#client/client.ts"),
        import("./find-daemon.ts"),
        import("./send.ts"),
      ]);
      return createClient({ ...findDaemon(data, environment), send });
    },
  };
  await (await command.load()).run(context);
}

async function report(error: unknown, streams: Pick<Streams, "stderr">): Promise<number> {
  const say = (text: string): void => void streams.stderr.write(`${sanitized(text)}\n`);
  if (error instanceof UsageError || error instanceof ConfigError) {
    say(error.message);
    return 2;
  }
  if (error instanceof Failure) {
    say(error.message);
    error.more.forEach(say);
    return 1;
  }
  const { linesOfClientError } = await import("./client-error.ts");
  const lines = linesOfClientError(error);
  if (lines) lines.forEach(say);
  else
    say(
      `ebb: something failed that should not: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  return 1;
}
