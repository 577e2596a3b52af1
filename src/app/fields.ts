// The readers of single settings: what is expected of each, and the sentence where it is something else.

import { entryForm, readEntry } from "#model/egress.ts";
import { deployLimits, functionBounds } from "#model/limits.ts";
import { refuseEnvName } from "#model/names.ts";
import type { Egress, EgressClass, RuntimeName, Scaling, ServingSettings } from "#model/workload.ts";
import { laterIsolations, laterRuntimes } from "./later.ts";
import { brief, type Place } from "./place.ts";
import { suggest } from "./suggest.ts";

export interface Range {
  readonly min: number;
  readonly max: number;
}

export function wholeNumber(at: Place, range: Range): number | undefined {
  const value = at.plainValue;
  if (typeof value === "number" && Number.isInteger(value) && value >= range.min && value <= range.max) return value;
  at.expected(`a whole number from ${range.min} to ${range.max}`);
  return undefined;
}

export function decimal(at: Place, range: Range): number | undefined {
  const value = at.plainValue;
  if (typeof value === "number" && value >= range.min && value <= range.max) return value;
  at.expected(`a number from ${range.min} to ${range.max}`);
  return undefined;
}

export function truth(at: Place): boolean | undefined {
  const value = at.plainValue;
  if (typeof value === "boolean") return value;
  at.expected("true or false");
  return undefined;
}

/** One of a few words; `later` are refused by name. */
export function word<Word extends string>(
  at: Place,
  words: readonly Word[],
  later: readonly string[] = [],
  what = list(words),
): Word | undefined {
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  const known = words.find((one) => one === text);
  if (known !== undefined) return known;
  if (later.includes(text)) return at.problem(`"${text}" comes with a later version of ebb; until then ${what}`);
  const near = suggest(text, words);
  at.problem(`expected ${what}, found ${at.found()}${near === null ? "" : `; did you mean ${near}?`}`);
  return undefined;
}

export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/** Why `path` cannot name a file or folder below the one that holds it; null when it can. */
export function refusePath(path: string, maxBytes: number): string | null {
  if (path.includes("\0")) return "it holds a NUL character";
  if (path.includes("\\")) return "write / between folders, not \\";
  if (path.startsWith("/") || path.startsWith("~")) return "it is not relative";
  if (Buffer.byteLength(path) > maxBytes) return `it is longer than ${maxBytes} bytes`;
  if (!path.isWellFormed()) return "it is not Unicode text";
  let depth = 0;
  for (const part of path.split("/")) {
    if (part === "..") depth -= 1;
    else if (part !== "" && part !== ".") depth += 1;
    if (depth < 0) return "it leads out of the folder of the app file";
  }
  return null;
}

/** Relative, inside the app's folder, made canonical: no "./", no trailing slash, "." for the folder itself. */
export function relativePath(at: Place, maxBytes: number): string | undefined {
  const what = "a folder or file, relative to the app file";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  const refusal = text.trim() === "" ? "it is empty" : refusePath(text, maxBytes);
  if (refusal !== null) return at.problem(`expected ${what}, found ${at.found()}: ${refusal}`);
  return canonicalPath(text);
}

export function canonicalPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.length === 0 ? "." : parts.join("/");
}

const handlerShape = /^[\w$@][\w$@+-]*(?:[./][\w$@+-]+)*$/;

/** `index.handle`, `src/index.handle`, `handle`, or a file: which it is depends on the files that are there. */
export function handlerName(at: Place): string | undefined {
  const what = "a module and its export, such as index.handle";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what)?.replace(/^\.\//, "");
  if (text === undefined) return undefined;
  if (text.length <= 256 && handlerShape.test(text)) return text;
  at.expected(what);
  return undefined;
}

export function commandWords(
  at: Place,
  what = "a list of a program and its arguments, such as [./server]",
  argumentsOnly = false,
): readonly string[] | undefined {
  const items = at.items(what);
  if (items === undefined) return undefined;
  if (items.length === 0 && !argumentsOnly) return at.problem(`expected ${what}, found an empty list`);
  if (items.length > functionBounds.commandArgs)
    return at.problem(`expected at most ${functionBounds.commandArgs} words, found ${items.length}`);
  const words: string[] = [];
  for (const item of items) {
    const text = item.writtenText("text");
    if (text === undefined) continue;
    if (text.includes("\0")) item.problem("expected text, found a NUL character in it");
    else if (Buffer.byteLength(text) > 4_096) item.problem("expected at most 4096 bytes");
    words.push(text);
  }
  if (!argumentsOnly && words[0]?.trim() === "") at.problem("expected a program as the first word, found an empty one");
  return words;
}

/** Values as written. Names and sizes are checked here; the clash with secrets by whoever sees both. */
export function environment(at: Place, refuseName = refuseEnvName): Readonly<Record<string, string>> | undefined {
  const entries = at.entries("a mapping of names to values");
  if (entries === undefined) return undefined;
  if (entries.length > functionBounds.envCount)
    at.problem(`expected at most ${functionBounds.envCount} variables, found ${entries.length}`);
  const env: Record<string, string> = Object.create(null) as Record<string, string>;
  let bytes = 0;
  for (const { key, value } of entries) {
    const refusal = refuseName(key);
    if (refusal !== null) value.keyProblem(`"${brief(key)}" cannot name a variable: ${refusal}`);
    const text = value.writtenText("text");
    if (text === undefined) continue;
    if (text.includes("\0")) value.problem("expected text, found a NUL character in it");
    env[key] = text;
    bytes += Buffer.byteLength(key) + Buffer.byteLength(text) + 2;
  }
  if (bytes > functionBounds.envBytes)
    at.problem(`expected at most ${functionBounds.envBytes} bytes in all, found ${bytes}`);
  return { ...env };
}

export function secretNames(at: Place): readonly string[] | undefined {
  const items = at.items("a list of names of secrets");
  if (items === undefined) return undefined;
  if (items.length > functionBounds.secretsCount)
    at.problem(`expected at most ${functionBounds.secretsCount} secrets, found ${items.length}`);
  const names = new Set<string>();
  for (const item of items) {
    if (item.isNothing) {
      item.expected("the name of a secret");
      continue;
    }
    const name = item.writtenText("the name of a secret");
    if (name === undefined) continue;
    const refusal = refuseEnvName(name);
    if (refusal !== null) item.problem(`"${brief(name)}" cannot name a secret: ${refusal}`);
    if (names.has(name)) item.problem(`"${brief(name)}" stands here twice`);
    names.add(name);
  }
  return [...names];
}

export function unknownKey(at: Place, key: string, known: readonly string[]): void {
  const near = suggest(key, known);
  at.keyProblem(`unknown key${near === null ? `; known are ${known.join(", ")}` : `; did you mean ${near}?`}`);
}

/** A word, or entries of an allow-list in the one way of writing them. */
export function egress(at: Place): Egress | undefined {
  const items = at.isList ? at.items("a list") : undefined;
  if (items === undefined)
    return word<EgressClass>(at, ["none", "internet"], [], "none, internet or a list of HOST:PORT");
  if (items.length === 0) return at.problem("expected an entry or more, found an empty list; none opens nothing");
  if (items.length > functionBounds.egressEntries)
    return at.problem(`expected at most ${functionBounds.egressEntries} entries, found ${items.length}`);
  const texts = new Set<string>();
  for (const item of items) {
    if (item.isNothing) {
      item.expected(entryForm);
      continue;
    }
    const text = item.writtenText(entryForm);
    if (text === undefined) continue;
    const read = readEntry(text);
    if (!read.ok) item.problem(`expected ${entryForm}, found ${item.found()}: ${read.why}`);
    else if (texts.has(read.value.text)) item.problem(`"${brief(read.value.text)}" stands here twice`);
    else texts.add(read.value.text);
  }
  return [...texts];
}

export function isolation(at: Place): "container" | "gvisor" | undefined {
  if (at.plainValue === "process" || at.plainValue === "none")
    return at.problem(
      "expected container or gvisor; nothing is isolated only where ebb was started with --isolation none",
    );
  return word(at, ["container", "gvisor"], laterIsolations);
}

/** By what it scales, one of three. */
export function scaling(at: Place): Scaling | undefined {
  const what = "one of requests, cpuPercent and memoryPercent, such as { cpuPercent: 60 }";
  const entries = at.entries(what);
  if (entries === undefined) return undefined;
  const [first, second] = entries;
  for (const { key, value } of entries)
    if (!Object.hasOwn(scalings, key)) unknownKey(value, key, Object.keys(scalings));
  if (first === undefined || second !== undefined)
    return at.problem(`expected ${what}, found ${entries.length || "none"}`);
  const range = scalings[first.key as keyof typeof scalings] as Range | undefined;
  const value = range && wholeNumber(first.value, range);
  return value === undefined ? undefined : ({ [first.key]: value } as unknown as Scaling);
}

const scalings = {
  requests: functionBounds.concurrency,
  cpuPercent: functionBounds.scalingPercent,
  memoryPercent: functionBounds.scalingPercent,
} as const;

/** What an instance is for is no more than it may get. `otherwise`: its concurrency where it says none. */
export function refuseScaling(
  { scaling, concurrency }: Pick<ServingSettings, "scaling"> & { readonly concurrency?: number },
  otherwise: number,
  places: ReadonlyMap<string, Place>,
): void {
  const most = concurrency ?? otherwise;
  if (scaling !== undefined && "requests" in scaling && scaling.requests > most)
    places
      .get("scaling")
      ?.problem(
        `requests ${scaling.requests} is above concurrency ${most}${concurrency === undefined ? ", the default" : ""}`,
      );
}

/** What functions and containers say alike, in the order in which problems name what is known. */
export const servingReaders = {
  memoryMb: (at: Place) => wholeNumber(at, functionBounds.memoryMb),
  cpu: (at: Place) => decimal(at, functionBounds.cpu),
  cpuStrict: truth,
  timeoutSeconds: (at: Place) => wholeNumber(at, functionBounds.timeoutSeconds),
  concurrency: (at: Place) => wholeNumber(at, functionBounds.concurrency),
  scaling,
  min: (at: Place) => wholeNumber(at, functionBounds.instances),
  max: (at: Place) => wholeNumber(at, { min: 1, max: functionBounds.instances.max }),
  idleSeconds: (at: Place) => wholeNumber(at, functionBounds.idleSeconds),
  public: truth,
  env: environment,
  secrets: secretNames,
  egress,
  isolation,
} as const;

export const runtimeNames: readonly RuntimeName[] = ["node22", "node24", "node26", "python3", "custom"];

/** What functions and jobs of code say alike. */
export const codeReaders = {
  source: (at: Place) => relativePath(at, deployLimits.pathBytes),
  runtime: (at: Place) => word(at, runtimeNames, laterRuntimes),
} as const;

/** What was written, read into `declared`, and where it stands; null: it is no mapping. */
export function readFields(
  at: Place,
  declared: object,
  {
    what,
    readers,
    later,
  }: {
    readonly what: string;
    readonly readers: Readonly<Record<string, (at: Place) => unknown>>;
    readonly later: Readonly<Record<string, string>>;
  },
): ReadonlyMap<string, Place> | null {
  const entries = at.entries(what);
  if (entries === undefined) return null;
  const places = new Map<string, Place>();
  for (const { key, value } of entries) {
    places.set(key, value);
    if (Object.hasOwn(readers, key)) {
      const read = readers[key]!(value);
      if (read !== undefined) Object.assign(declared, { [key]: read });
    } else if (Object.hasOwn(later, key)) value.keyProblem(later[key]!);
    else unknownKey(value, key, Object.keys(readers));
  }
  return places;
}

export function secretsApart(
  { env, secrets }: { readonly env?: Readonly<Record<string, string>>; readonly secrets?: readonly string[] },
  places: ReadonlyMap<string, Place>,
): void {
  for (const secret of secrets ?? [])
    if (env && Object.hasOwn(env, secret))
      places.get("secrets")?.problem(`"${secret}" is in env too; one name has one value`);
}
