// Pure: from argv to a command with its arguments and options, or a UsageError that says what is right.

import { parseArgs, type ParseArgsConfig } from "node:util";
import { nearest } from "#lib/nearest.ts";
import { UsageError } from "./failure.ts";
import { commonOptions, type CommandSpec, type OptionSpec } from "./spec.ts";

export interface Parsed {
  readonly command: CommandSpec;
  readonly arguments: readonly string[];
  readonly after: readonly string[] | null;
  readonly options: Options;
}

/** What `--…` said. */
export interface Options {
  flag(name: string): boolean;
  text(name: string): string | null;
  many(name: string): readonly string[];
  /** A whole number from 0. */
  number(name: string): number | null;
}

/** null: no command was named. */
export function findCommand(
  argv: readonly string[],
  table: readonly CommandSpec[],
): { command: CommandSpec; rest: readonly string[] } | null {
  const first = argv.findIndex((word) => !word.startsWith("-"));
  if (first < 0) return null;
  const [word = "", second = ""] = argv.slice(first);
  for (const length of [2, 1]) {
    const name = length === 2 ? `${word} ${second}` : word;
    const command = table.find((one) => one.name === name);
    if (command) return { command, rest: [...argv.slice(0, first), ...argv.slice(first + length)] };
  }
  const verbs = table.filter(({ name }) => name.startsWith(`${word} `)).map(({ name }) => name);
  if (verbs.length > 0 && !(second !== "" && !second.startsWith("-")))
    throw new UsageError(`ebb ${word} needs one of: ${verbs.map((name) => name.slice(word.length + 1)).join(", ")}`);
  const tried = verbs.length > 0 ? `${word} ${second}` : word;
  const near = nearest(tried, verbs.length > 0 ? verbs : table.map(({ name }) => name));
  throw new UsageError(`ebb has no command "${tried}"${near ? `; did you mean "ebb ${near}"?` : "; see ebb --help"}`);
}

export function optionsOf(command: CommandSpec): Readonly<Record<string, OptionSpec>> {
  return { ...commonOptions, ...command.options };
}

export function parseCommand(command: CommandSpec, rest: readonly string[]): Parsed {
  const specs = optionsOf(command);
  const config: ParseArgsConfig["options"] = {};
  for (const [name, spec] of Object.entries(specs))
    config[name] = {
      type: spec.value === undefined ? "boolean" : "string",
      multiple: spec.several ?? false,
      ...(spec.short === undefined ? {} : { short: spec.short }),
    };
  const end = command.after === undefined ? -1 : rest.indexOf("--");
  const after = end < 0 ? null : rest.slice(end + 1);
  const args = end < 0 ? [...rest] : rest.slice(0, end);
  let values: Record<string, unknown>;
  let positionals: string[];
  try {
    ({ values, positionals } = parseArgs({ args, options: config, allowPositionals: true, strict: true }));
  } catch (error) {
    throw new UsageError(`ebb ${command.name}: ${wordsOf(error, Object.keys(specs))}`);
  }
  if (values["help"] !== true) checkArguments(command, positionals);
  return { command, arguments: positionals, after, options: readerOf(command, values) };
}

function checkArguments(command: CommandSpec, given: readonly string[]): void {
  const specs = command.arguments ?? [];
  const missing = specs.slice(given.length).find((spec) => !spec.optional);
  if (missing) throw new UsageError(`ebb ${command.name} needs ${missing.name}: ${usageLine(command)}`);
  if (given.length > specs.length)
    throw new UsageError(`ebb ${command.name}: "${given[specs.length]}" is one too many: ${usageLine(command)}`);
}

export function usageLine(command: CommandSpec): string {
  const words = (command.arguments ?? []).map(({ name, optional }) => (optional ? `[${name}]` : name));
  for (const [name, spec] of Object.entries(command.options ?? {}))
    words.push(
      `[${spec.short ? `-${spec.short}|` : ""}--${name}${spec.value === undefined ? "" : ` ${spec.value}`}]${spec.several ? "…" : ""}`,
    );
  if (command.after !== undefined) words.push(`[-- ${command.after}]`);
  return ["ebb", command.name, ...words].join(" ");
}

function wordsOf(error: unknown, known: readonly string[]): string {
  const message = error instanceof Error ? error.message : String(error);
  const unknown = /Unknown option '--?([^'=]+)/.exec(message)?.[1];
  if (unknown !== undefined) {
    const near = nearest(unknown, known);
    return `there is no option --${unknown}${near ? `; did you mean --${near}?` : ""}`;
  }
  return message.split(/\.\s|\n/, 1)[0]!.replace(/^Option /, "option ");
}

function readerOf(command: CommandSpec, values: Record<string, unknown>): Options {
  const text = (name: string): string | null => {
    const value = values[name];
    return typeof value === "string" ? value : null;
  };
  return {
    flag: (name) => values[name] === true,
    text,
    many: (name) => [values[name] ?? []].flat().map(String),
    number: (name) => {
      const value = text(name);
      if (value === null) return null;
      if (!/^\d{1,15}$/.test(value))
        throw new UsageError(`ebb ${command.name}: --${name}: expected a whole number, found "${value}"`);
      return Number(value);
    },
  };
}
