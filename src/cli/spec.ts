// What a command is: the one description from which arguments are read, help is printed and the reference is generated.

import type { CommandContext } from "./context.ts";

export interface ArgumentSpec {
  readonly name: string;
  readonly optional?: boolean;
}

export interface OptionSpec {
  /** Shown as the value's name; left out: a switch. */
  readonly value?: string;
  readonly short?: string;
  readonly several?: boolean;
  readonly help: string;
}

export interface CommandSpec {
  /** Noun and verb: "secrets set". */
  readonly name: string;
  readonly summary: string;
  readonly arguments?: readonly ArgumentSpec[];
  /** What stands behind "--" is passed on, as this. */
  readonly after?: string;
  readonly options?: Readonly<Record<string, OptionSpec>>;
  /** Said below the options. */
  readonly notes?: readonly string[];
  readonly examples?: readonly string[];
  /** Imported only when the command runs: the command line must start fast. */
  readonly load: () => Promise<{ readonly run: (context: CommandContext) => Promise<void> }>;
}

/** What every command takes. */
export const commonOptions = {
  json: { help: "one JSON value on stdout and nothing else; streams print one a line" },
  help: { short: "h", help: "this text" },
  data: { value: "DIR", help: "the data directory of the daemon (EBB_DATA; .ebb/ beside the launcher)" },
  project: { value: "P", help: "the project, where it is not default" },
} as const satisfies Record<string, OptionSpec>;
