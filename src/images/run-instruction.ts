// A RUN as it is to be run: its command, whether it gets a network, and what of its files is not kept. Pure.

import { tokensOf } from "./dockerfile-words.ts";
import type { Escape, Instruction, Refuse } from "./dockerfile.ts";

export interface RunInstruction {
  readonly line: number;
  /** As a person knows it again: its first line, and not all of that. */
  readonly said: string;
  readonly command: readonly string[];
  readonly network: boolean;
  /** Relative to the root: caches, which are no part of the image. */
  readonly leftOut: readonly string[];
}

export const defaultShell: readonly string[] = ["/bin/sh", "-c"];
const saidChars = 120;

export function readRun(
  { line, rest, heredocs }: Instruction,
  shell: readonly string[],
  escape: Escape,
  refuse: Refuse,
): RunInstruction {
  const tokens = tokensOf(rest, escape);
  const options: string[] = [];
  while (tokens[options.length]?.startsWith("--") === true) options.push(tokens[options.length]!);
  const text = textBehind(rest, options);
  if (text === "") throw refuse(line, "RUN says nothing to run");
  let network = true;
  const leftOut: string[] = [];
  for (const option of options) {
    const [name, value] = split(option, "=");
    if (name === "--network" && (value === "default" || value === "none")) network = value === "default";
    else if (name === "--mount") leftOut.push(cacheOf(value, line, refuse));
    else throw refuse(line, `ebb does not take ${option} of a RUN`);
  }
  const command = commandOf(text, heredocs, shell);
  // By an escape of JSON; of the file's own there are none.
  if (command.some((word) => word.includes("\0"))) throw refuse(line, "there is a NUL in it");
  return { line, said: text.slice(0, saidChars), command, network, leftOut };
}

/** The texts of a JSON list; null: it is none, and for the shell. */
export function listOf(text: string): readonly string[] | null {
  if (!text.startsWith("[")) return null;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "string") ? value : null;
  } catch {
    return null;
  }
}

function commandOf(text: string, heredocs: Instruction["heredocs"], shell: readonly string[]): readonly string[] {
  const [only] = heredocs;
  if (only === undefined) return listOf(text) ?? [...shell, text];
  const all = heredocs.flatMap(({ lines }) => lines);
  // A shell reads them itself, where they are some command's.
  if (heredocs.length > 1 || /\s/.test(text)) return [...shell, `${text}\n${all.join("\n")}\n`];
  const lines = only.lines.slice(0, -1).map((one) => (only.tabs ? one.replace(/^\t+/, "") : one));
  const script = lines.join("\n");
  const interpreter = /^#!\s*(\S.*)$/.exec(lines[0] ?? "")?.[1];
  if (interpreter === undefined) return [...shell, script];
  return [...defaultShell, `exec ${interpreter} /dev/stdin <<'${only.end}'\n${script}\n${only.end}\n`];
}

function textBehind(rest: string, options: readonly string[]): string {
  let text = rest;
  for (const option of options) text = text.trimStart().slice(option.length);
  return text.trim();
}

/** A cache is empty here each time, and goes; the other kinds bring something in, which is not there. */
function cacheOf(value: string, line: number, refuse: Refuse): string {
  const said = new Map(value.split(",").map((part) => split(part, "=")));
  const target = said.get("target") ?? said.get("dst") ?? said.get("destination") ?? "";
  const type = said.get("type") ?? "bind";
  if (type !== "cache" && type !== "tmpfs")
    throw refuse(line, `ebb does not take --mount of type ${type} of a RUN; only cache and tmpfs, which begin empty`);
  const parts = target.split("/").filter((part) => part !== "" && part !== ".");
  if (!target.startsWith("/") || parts.length === 0 || parts.includes("..") || /["'\\$]/.test(target))
    throw refuse(line, `--mount needs a target that is an absolute path, written out`);
  return parts.join("/");
}

function split(text: string, by: string): [string, string] {
  const at = text.indexOf(by);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + by.length)];
}
