// Pure: how code that does not load is told to its author: their own error, its line, and the way on.

import { EbbError } from "#model/errors.ts";
import type { Failure } from "#model/instance.ts";
import { deployLimits } from "#model/limits.ts";

/** One function's problem, as problem+json carries it in `problems`. */
export interface DeployProblem {
  readonly workload: string;
  readonly message: string;
  readonly stack: string | null;
  readonly hint: string | null;
  /** The end of what it printed while it was loaded. */
  readonly output: string | null;
}

/** `source` is the folder as the app file names it. */
export function problemOfCheck(workload: string, source: string, failure: Failure, output: string): DeployProblem {
  const missing = missingPackage(failure);
  const where = missing?.at ? ` (${missing.at})` : "";
  const message = missing ? `cannot find package "${missing.name}"${where}` : failure.message;
  return {
    workload,
    message,
    stack: failure.stack === null ? null : failure.stack.slice(0, deployLimits.checkOutputBytes),
    hint: missing ? installHint(missing, source) : failure.hint,
    output: output.trim() === "" ? null : output.slice(-deployLimits.checkOutputBytes),
  };
}

export function problemOfError(workload: string, error: EbbError): DeployProblem {
  const { stack, hint, output } = error.extra;
  return { workload, message: error.message, stack: textOf(stack), hint: textOf(hint), output: textOf(output) };
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** One error for all: the first in its sentence, each in `problems`. */
export function refusal(problems: readonly DeployProblem[]): EbbError {
  const first = problems[0]!;
  const own = first.message.startsWith(`${first.workload}:`) || first.message.startsWith(`${first.workload} `);
  const sentence = own ? first.message : `${first.workload}: ${first.message}`;
  const end = sentence.endsWith(".") ? "" : ".";
  const hint = first.hint === null ? "" : `${end} ${first.hint}`;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  return new EbbError("deploy_refused", `${sentence}${hint}${more}`, { extra: { problems } });
}

interface MissingPackage {
  readonly name: string;
  readonly python: boolean;
  /** "index.js:1" */
  readonly at: string | null;
}

const words: ReadonlyArray<readonly [RegExp, boolean]> = [
  [/Cannot find (?:package|module) '((?:@[\w.-]+\/)?[\w-][\w.-]*)(?:\/[^']*)?'/, false],
  [/No module named '([\w.]+)'/, true],
];

function missingPackage(failure: Failure): MissingPackage | null {
  const text = `${failure.message}\n${failure.stack ?? ""}`;
  for (const [pattern, python] of words) {
    const name = pattern.exec(text)?.[1];
    if (name) return { name: python ? name.split(".")[0]! : name, python, at: place(text, python) };
  }
  return null;
}

/** The user's own line: the first frame that is not of node itself or of a package. */
function place(text: string, python: boolean): string | null {
  const pattern = python
    ? /File "(?:\/code\/|\.\/)?([^"<>]+)", line (\d+)/g
    : /(?:file:\/\/)?(?:\/code\/)([\w@./-]+\.[cm]?[jt]sx?)(?::(\d+))?/g;
  const found = [...text.matchAll(pattern)].filter(([, file]) => !/node_modules|site-packages|^\//.test(file!));
  const best = python ? found.at(-1) : (found.find(([, , line]) => line !== undefined) ?? found[0]);
  if (!best) return /\(([\w./-]+:\d+)\)/.exec(text)?.[1] ?? null;
  return best[2] === undefined ? best[1]! : `${best[1]}:${best[2]}`;
}

function installHint({ name, python }: MissingPackage, source: string): string {
  const folder = source === "." ? "its folder" : source.startsWith("./") ? source : `./${source}`;
  return python
    ? `Run pip install --target . ${name} in ${folder}, then deploy.`
    : `Run npm install in ${folder}, then deploy.`;
}
