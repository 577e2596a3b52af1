// Reads ebb.yaml: every problem at once, each with its line, its path and what was expected.

import { type Document, LineCounter, type Node, parseDocument } from "yaml";
import { deployLimits, functionDefaults } from "#model/limits.ts";
import { defaultProject, refuseProjectName, refuseWorkloadName } from "#model/names.ts";
import type { AppFile, AppProblem, FunctionDeclaration, ReadApp } from "./door.ts";
import {
  codeReaders,
  commandWords,
  handlerName,
  readFields,
  refuseScaling,
  secretsApart,
  servingReaders,
  truth,
  unknownKey,
  word,
} from "./fields.ts";
import { laterFunctionKeys, laterKeys } from "./later.ts";
import { anchorsOf, brief, Place, Report } from "./place.ts";
import { readContainers } from "./read-containers.ts";
import { readJob } from "./read-jobs.ts";

/** Nesting that is read; the app file needs five. Deeper would cost the parser its stack. */
const nestingMax = 64;
/** 200 functions with 100 lines each. */
const linesMax = 20_000;
/** Characters that can begin a token; the parser's time goes by these. */
const marksMax = 60_000;
const marksOfYaml = new Set(Array.from("[]{},:&*!\"'#-?|>").map((char) => char.charCodeAt(0)));

const readers = {
  ...codeReaders,
  handler: handlerName,
  signature: (at: Place) => word(at, ["web", "event", "node"]),
  command: (at: Place) => commandWords(at),
  bundle: truth,
  ...servingReaders,
} as const;

export const readApp: ReadApp = (text, file) => {
  const lines = new LineCounter();
  const report = new Report(file, lines);
  const refusal = refuseText(text);
  if (refusal !== null)
    return { ok: false, problems: [{ file, line: refusal.line, path: "", message: refusal.message }] };
  let app: AppFile | null = null;
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      uniqueKeys: false, // quadratic in the parser; Place reports them
      stringKeys: false,
      merge: false,
      schema: "core",
      version: "1.2",
      logLevel: "error", // "silent" would take several documents for one,
    });
    if (!syntaxProblems(document, report)) app = readRoot(document.contents, report);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the parser's stack; anything else is a defect
    report.add(1, "", "nested too deeply to be read");
  }
  if (app !== null && report.clean) return { ok: true, app };
  return { ok: false, problems: report.problems() };
};

/** `ebb.yaml:12: functions.thumbnail.memoryMb: expected …` */
export function sentenceOf(problem: AppProblem): string {
  return `${problem.file}:${problem.line}: ${problem.path === "" ? "" : `${problem.path}: `}${problem.message}`;
}

/** What the parser must never see: it costs up to 2 us a token, on a thread that others wait for, and stack for each nesting. */
function refuseText(text: string): { line: number; message: string } | null {
  if (text.length > deployLimits.appFileBytes || Buffer.byteLength(text) > deployLimits.appFileBytes)
    return { line: 1, message: `expected at most ${deployLimits.appFileBytes} bytes` };
  let line = 1;
  let open = 0;
  let run = 0;
  let marks = 0;
  /** Columns at which the lines around this one begin, each further in than the one before. */
  const columns: number[] = [];
  let column = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 10) {
      line += 1;
      run = 0;
      column = 0;
    } else if (char === 0) return { line, message: "expected text, found a NUL character" };
    else if (char === 0x5b || char === 0x7b) open += 1;
    else if ((char === 0x5d || char === 0x7d) && open > 0) open -= 1;
    if (marksOfYaml.has(char)) marks += 1;
    if (char === 0x20 && column >= 0) column += 1;
    // Blank lines and comments nest nothing, and end nothing.
    else if ((char === 0x23 || char === 0x0d) && column >= 0) column = -1;
    else if (char !== 10 && column >= 0) {
      while ((columns.at(-1) ?? -1) >= column) columns.pop();
      columns.push(column);
      column = -1;
    }
    // "- - - -" and "? ? ?" nest without brackets, on one line.
    if ((char === 0x2d || char === 0x3f || char === 0x3a) && (text[i + 1] ?? "\n").trim() === "") run += 1;
    else if (char !== 0x20 && char !== 0x09) run = 0;
    if (open > nestingMax || run > nestingMax || columns.length > nestingMax)
      return { line, message: "nested too deeply to be read" };
    if (line > linesMax) return { line, message: `expected at most ${linesMax} lines` };
    if (marks > marksMax) return { line, message: "so much punctuation is not meant to be read" };
  }
  return null;
}

/** True where the text is not YAML, or not one document. */
function syntaxProblems(document: Document.Parsed, report: Report): boolean {
  for (const problem of [...document.errors, ...document.warnings]) {
    const line = report.lineAt(problem.pos[0]);
    if (problem.message.includes("call stack")) report.add(line, "", "nested too deeply to be read");
    else if (problem.code === "MULTIPLE_DOCS") report.add(line, "", "expected one YAML document, found several");
    else report.add(line, "", `not YAML: ${brief(problem.message.split("\n")[0] ?? "", 160)}`);
  }
  return !report.clean;
}

function readRoot(contents: Node | null, report: Report): AppFile | null {
  const root = new Place(report, anchorsOf(contents), contents, "", 1);
  if (root.isNothing) {
    root.problem("expected functions, found an empty file");
    return null;
  }
  const entries = root.entries("a mapping with functions");
  if (entries === undefined) return null;
  let project: string | null = null;
  let functions: Place | null = null;
  let containers: Place | null = null;
  let jobs: Place | null = null;
  for (const { key, value } of entries) {
    if (key === "project") project = readProject(value);
    else if (key === "functions") functions = value;
    else if (key === "containers") containers = value;
    else if (key === "jobs") jobs = value;
    else if (Object.hasOwn(laterKeys, key)) value.keyProblem(laterKeys[key]!);
    else unknownKey(value, key, ["project", "functions", "containers", "jobs"]);
  }
  if (functions === null && containers === null && jobs === null) {
    root.problemAt("functions", "expected at least one function, container or job, found none");
    return null;
  }
  const named = { project: project ?? defaultProject, names: new Map<string, string>() };
  const read: AppFile = {
    project,
    functions: functions === null ? [] : readAll(functions, "function", named, readFunction),
    ...(jobs === null ? {} : { jobs: readAll(jobs, "job", named, readJob) }),
  };
  if (containers === null) return read;
  const others = [...read.functions, ...(read.jobs ?? [])];
  return { ...read, containers: readContainers(containers, named.project, others) };
}

function readProject(at: Place): string | null {
  if (at.isNothing) {
    at.expected("a project's name");
    return null;
  }
  const name = at.writtenText("a project's name");
  if (name === undefined) return null;
  const refusal = refuseProjectName(name);
  if (refusal === null) return name;
  at.problem(`${JSON.stringify(brief(name))} cannot name a project: ${refusal}`);
  return null;
}

/** `names`: those that are taken, by what they name. */
function readAll<Declaration>(
  at: Place,
  kind: "function" | "job",
  { project, names }: { readonly project: string; readonly names: Map<string, string> },
  read: (at: Place, name: string) => Declaration,
): Declaration[] {
  const entries = at.entries(`a mapping of names to ${kind}s`);
  if (entries === undefined) return [];
  if (entries.length === 0) at.problem(`expected at least one ${kind}, found none`);
  if (entries.length > deployLimits.functionsPerApp) {
    at.problem(`expected at most ${deployLimits.functionsPerApp} ${kind}s, found ${entries.length}`);
    return [];
  }
  return entries.map(({ key, value }) => {
    const refusal = refuseWorkloadName(key, project);
    if (refusal !== null) value.keyProblem(`${JSON.stringify(brief(key))} cannot name a ${kind}: ${refusal}`);
    const other = names.get(key);
    if (other !== undefined) value.keyProblem(`a ${other} has this name too; workloads of a project share their names`);
    names.set(key, kind);
    return read(value, key);
  });
}

function readFunction(at: Place, name: string): FunctionDeclaration {
  const declared: { -readonly [K in keyof FunctionDeclaration]: FunctionDeclaration[K] } = { name, source: "." };
  const places = readFields(at, declared, { what: "a mapping with source", readers, later: laterFunctionKeys });
  if (places === null) return declared;
  if (!places.has("source"))
    at.problemAt("source", "expected a folder or file, relative to the app file, found nothing");
  crossCheck(declared, at, places);
  return declared;
}

/** What is right by itself and wrong together. */
function crossCheck(declared: FunctionDeclaration, at: Place, places: ReadonlyMap<string, Place>): void {
  const { runtime, min, max } = declared;
  if (runtime === "custom") {
    if (!places.has("command")) at.problemAt("command", "runtime custom needs a command, such as [./server]");
    for (const key of ["handler", "signature"])
      places.get(key)?.keyProblem(`runtime custom serves HTTP itself and has no ${key}; leave it out`);
  } else if (runtime !== undefined)
    places.get("command")?.keyProblem(`a command is for runtime custom only; ${runtime} has a handler`);
  else if (places.has("command") && places.has("handler"))
    places
      .get("command")
      ?.keyProblem("a command is for runtime custom, a handler for the others; leave one of them out");
  if (declared.bundle === true && runtime !== undefined && !runtime.startsWith("node"))
    places.get("bundle")?.problem(`a bundle is made of Node's modules, and ${runtime} has none; leave it out`);
  const ceiling = max ?? functionDefaults.max;
  if (min !== undefined && min > ceiling)
    places.get("min")?.problem(`min ${min} is above max ${ceiling}${max === undefined ? ", the default" : ""}`);
  refuseScaling(declared, functionDefaults.concurrency, places);
  secretsApart(declared, places);
}
