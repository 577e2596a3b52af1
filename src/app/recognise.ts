// Which runtime a folder of code is for, and which of its files is the entry: from names alone, and package.json. Pure.

import { deployLimits } from "#model/limits.ts";
import { refuseWorkloadName, workloadNameMaxChars } from "#model/names.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { FunctionDeclaration } from "./door.ts";
import { chooseNode } from "./engines.ts";
import { canonicalPath, list, refusePath } from "./fields.ts";

export interface ListedFile {
  /** Relative to the source, with "/" between. */
  readonly path: string;
  readonly executable: boolean;
}

export interface Listing {
  /** At least the files of the top folder, and the one that a declared handler or package.json's main may name. */
  readonly files: readonly ListedFile[];
  /** Text of package.json; null: there is none. */
  readonly packageJson: string | null;
}

export type Recognition =
  | {
      readonly ok: true;
      readonly runtime: RuntimeName;
      /** Null: the program listens itself (custom). */
      readonly entry: string | null;
      /** Export of the entry that was declared, without the file; null: none was. */
      readonly handler: string | null;
      readonly command: readonly string[] | null;
      readonly notes: readonly string[];
    }
  /** A sentence for the author, without the function's name. */
  | { readonly ok: false; readonly message: string };

const nodeEndings = ["js", "mjs", "cjs", "ts", "mts", "cts", "tsx", "jsx"];
const nodeFile = /\.(?:[mc]?[jt]s|[jt]sx)$/;
const declarations = /\.d(?:\.[^./]+)?\.[mc]?ts$/;
const nodeNames = ["index", "handler", "server", "app"];
const pythonNames = ["main", "app", "handler", "lambda_function"];

type Asked = Pick<FunctionDeclaration, "runtime" | "handler" | "command">;
type Language = "node" | "python";
/** Where an entry was found, and how sure that makes us: named by convention (or package.json), or the only file there is. */
type Found =
  | { readonly entry: string; readonly handler: string | null; readonly certain: boolean }
  | { readonly refusal: string }
  | null;

export function recognise(listing: Listing, asked: Asked): Recognition {
  const manifest = readManifest(listing.packageJson);
  if (typeof manifest === "string") return refuse(manifest);
  if (asked.runtime === "custom" || (asked.runtime === undefined && asked.command !== undefined))
    return custom(asked.command ?? null);
  const node = asked.runtime === "python3" ? null : findNode(listing, manifest, asked.handler);
  const python = asked.runtime?.startsWith("node") ? null : findPython(listing, asked.handler);
  const chosen = choose(node, python);
  if (typeof chosen === "string") return refuse(chosen);
  if (chosen === null) return nothingFound(listing, asked);
  const { language, found } = chosen;
  const { runtime, note } =
    language === "python" ? { runtime: "python3" as const, note: null } : chooseNode(manifest?.engines);
  return {
    ok: true,
    runtime: asked.runtime ?? runtime,
    entry: found.entry,
    handler: found.handler,
    command: null,
    notes: note === null || asked.runtime !== undefined ? [] : [note],
  };
}

function refuse(message: string): Recognition {
  return { ok: false, message };
}

function custom(command: readonly string[] | null): Recognition {
  if (command === null) return refuse("runtime custom needs a command, such as [./server]");
  return { ok: true, runtime: "custom", entry: null, handler: null, command, notes: [] };
}

function choose(
  node: Found,
  python: Found,
): { language: Language; found: Exclude<Found, null | { refusal: string }> } | string | null {
  const usable = (found: Found) => (found !== null && "entry" in found ? found : null);
  const [n, p] = [usable(node), usable(python)];
  if (n && p) {
    if (n.certain === p.certain)
      return `both ${n.entry} and ${p.entry} could be meant; say which in ebb.yaml: runtime: node26 or runtime: python3`;
    return n.certain ? { language: "node", found: n } : { language: "python", found: p };
  }
  if (n) return { language: "node", found: n };
  if (p) return { language: "python", found: p };
  for (const found of [node, python]) if (found !== null && "refusal" in found) return found.refusal;
  return null;
}

interface Manifest {
  readonly main: string | null;
  readonly engines: unknown;
}

/** Null: no package.json; a sentence: it cannot be read. */
function readManifest(text: string | null): Manifest | string | null {
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    return `package.json is not JSON: ${error instanceof Error ? error.message.slice(0, 200) : "it cannot be read"}`;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "package.json is not a JSON object";
  const { main, engines } = value as { main?: unknown; engines?: unknown };
  if (main !== undefined && typeof main !== "string") return "package.json: main is not a text";
  const node = typeof engines === "object" && engines !== null ? (engines as { node?: unknown }).node : undefined;
  return { main: main === undefined || main.trim() === "" ? null : main, engines: node };
}

function findNode({ files }: Listing, manifest: Manifest | null, handler: string | undefined): Found {
  const paths = new Set(files.map(({ path }) => path));
  const resolve = (stem: string) => resolveNode(paths, stem);
  if (handler !== undefined && handler.includes(".")) {
    const found = splitHandler(handler, resolve);
    if (found !== null) return found;
  }
  const found = findNodeEntry(files, paths, manifest);
  if (found === null || "refusal" in found || handler === undefined) return found;
  return withExport(found, handler, "index.handle");
}

function findNodeEntry(files: readonly ListedFile[], paths: ReadonlySet<string>, manifest: Manifest | null): Found {
  if (manifest !== null && manifest.main !== null) {
    const main = canonicalPath(manifest.main);
    const refusal = refusePath(manifest.main, deployLimits.pathBytes);
    if (refusal !== null) return { refusal: `package.json: main is ${JSON.stringify(manifest.main)}: ${refusal}` };
    const entry = resolveNode(paths, main);
    if (entry !== null) return { entry, handler: null, certain: true };
    // npm init writes this one unasked.
    if (main !== "index.js")
      return {
        refusal: `package.json: main is ${JSON.stringify(manifest.main)}, which is not there; build it first, or correct main`,
      };
  }
  for (const name of nodeNames) {
    const entry = withEnding(paths, name);
    if (entry !== null) return { entry, handler: null, certain: true };
  }
  const code = files.filter(
    ({ path }) => !path.includes("/") && nodeFile.test(path) && !declarations.test(path) && !isTooling(path),
  );
  if (code.length === 1) return { entry: code[0]!.path, handler: null, certain: manifest !== null };
  if (code.length > 1)
    return {
      refusal: `which of ${list(code.slice(0, 5).map(({ path }) => path))}${code.length > 5 ? ` (and ${code.length - 5} more)` : ""} is the entry? Name it index, handler, server or app, or say main in package.json`,
    };
  if (manifest !== null)
    return { refusal: "there is a package.json, but no index, handler, server or app beside it, and no main in it" };
  return null;
}

/** Files that configure tools are never what is meant by the only file there is. */
function isTooling(path: string): boolean {
  return /\.(?:config|test|spec)\.[^.]+$/.test(path) || path.startsWith(".");
}

function findPython({ files }: Listing, handler: string | undefined): Found {
  const paths = new Set(files.map(({ path }) => path));
  const resolve = (stem: string) =>
    [stem, `${stem}.py`, `${stem}/__init__.py`].find((path) => path.endsWith(".py") && paths.has(path)) ?? null;
  if (handler !== undefined && handler.includes(".")) {
    const found = splitHandler(handler, resolve);
    if (found !== null) return found;
  }
  const found = findPythonEntry(files, paths);
  if (found === null || "refusal" in found || handler === undefined) return found;
  return withExport(found, handler, "main.handle");
}

function findPythonEntry(files: readonly ListedFile[], paths: ReadonlySet<string>): Found {
  for (const name of pythonNames)
    if (paths.has(`${name}.py`)) return { entry: `${name}.py`, handler: null, certain: true };
  const code = files.filter(
    ({ path }) => /^[^/]+\.py$/.test(path) && !/^(?:setup|conftest|test_.*|.*_test)\.py$/.test(path),
  );
  if (code.length === 1) return { entry: code[0]!.path, handler: null, certain: false };
  if (code.length > 1)
    return {
      refusal: `which of ${list(code.slice(0, 5).map(({ path }) => path))}${code.length > 5 ? ` (and ${code.length - 5} more)` : ""} is the entry? Name it main, app, handler or lambda_function, or say handler: MODULE.NAME`,
    };
  return null;
}

/** `src/index.api.handle`: the longest beginning that names a file; the rest is the export. A file by itself has none. */
function splitHandler(handler: string, resolve: (stem: string) => string | null): Exclude<Found, null> | null {
  const whole = resolve(handler);
  if (whole !== null && whole === handler) return { entry: whole, handler: null, certain: true };
  for (let dot = handler.lastIndexOf("."); dot > 0; dot = handler.lastIndexOf(".", dot - 1)) {
    if (handler.indexOf("/", dot) >= 0) continue;
    const stem = handler.slice(0, dot);
    const rest = handler.slice(dot + 1);
    const entry = resolve(stem);
    if (entry !== null) return { entry, handler: rest, certain: true };
  }
  return null;
}

/** A declared handler that names no file is an export of the entry, unless it looks like a file of its own. */
function withExport(
  found: Exclude<Found, null | { refusal: string }>,
  handler: string,
  example: string,
): Exclude<Found, null> {
  if (handler.includes("/"))
    return {
      refusal: `handler: ${handler} names no file that is there; expected a module and its export, such as ${example}`,
    };
  return { ...found, handler };
}

function resolveNode(paths: ReadonlySet<string>, stem: string): string | null {
  const direct = withEnding(paths, stem, true);
  return direct ?? withEnding(paths, stem === "." ? "index" : `${stem}/index`);
}

/** As Node resolves, and with the TypeScript that becomes the JavaScript that is named. */
function withEnding(paths: ReadonlySet<string>, stem: string, exact = false): string | null {
  if (exact && paths.has(stem) && nodeFile.test(stem)) return stem;
  for (const ending of nodeEndings) if (paths.has(`${stem}.${ending}`)) return `${stem}.${ending}`;
  const compiled = /^(.*)\.([mc]?)js$/.exec(stem);
  if (!exact || !compiled) return null;
  const endings = compiled[2] === "" ? ["ts", "tsx", "jsx"] : [`${compiled[2]}ts`];
  return endings.map((ending) => `${compiled[1]}.${ending}`).find((path) => paths.has(path)) ?? null;
}

function nothingFound({ files }: Listing, asked: Asked): Recognition {
  if (files.length === 0) return refuse("there is nothing in it");
  if (asked.runtime === "python3") return refuse("there is no main.py, app.py, handler.py or lambda_function.py in it");
  if (asked.runtime !== undefined)
    return refuse("there is no index, handler, server or app (.js, .mjs, .cjs, .ts, …) in it");
  const programs = files.filter(({ path, executable }) => executable && !path.includes("/") && !path.startsWith("."));
  if (programs.length === 1)
    return {
      ...(custom([`./${programs[0]!.path}`]) as Extract<Recognition, { ok: true }>),
      notes: [`./${programs[0]!.path} is run as it is (runtime custom)`],
    };
  const exists = files.slice(0, 3).map(({ path }) => path);
  return refuse(
    `there is no JavaScript, TypeScript or Python in its top folder (but ${list(exists)}${files.length > 3 ? ", …" : ""}); for a program of your own say runtime: custom and command: [./server]`,
  );
}

/** The name of the function that a plain folder or file is: made canonical, or a sentence why it cannot be. */
export function nameOf(
  base: string,
  project: string,
): { readonly ok: true; readonly name: string } | { readonly ok: false; readonly message: string } {
  const stem = base.replace(/\.(?:[mc]?[jt]s|[jt]sx|py)$/, "");
  const name = stem
    .normalize("NFKD")
    .replaceAll(/\p{M}/gu, "")
    .replaceAll(/([\p{Ll}\d])(?=\p{Lu})/gu, "$1-")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^[-0-9]+|-+$/g, "");
  const refusal = name === "" ? "no letter of it can stay" : refuseWorkloadName(name, project);
  if (refusal === null) return { ok: true, name };
  return {
    ok: false,
    message: `${JSON.stringify(base.slice(0, 80))} cannot name a function (${refusal}); give it one with --name: a letter, then letters, digits and hyphens, at most ${workloadNameMaxChars}`,
  };
}
