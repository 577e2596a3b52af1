// Which files of a tree are transpiled, into what, and what the sandbox gets to see for it. Pure.

import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import { quote } from "./tar.ts";
import type { Tree } from "./tree.ts";

export interface TranspileFile {
  readonly path: string;
  /** Where the JavaScript goes. */
  readonly output: string;
}

export interface TranspilePlan {
  readonly files: readonly TranspileFile[];
  /** All that the compiler may read: sources, package.json for the module format, tsconfig.json for the dialect. */
  readonly inputs: readonly string[];
  /** ES modules by their ending: what is beside them in a package without a type is meant as one too. */
  readonly modules: readonly string[];
}

const endings: ReadonlyArray<readonly [RegExp, string]> = [
  [/\.(?:ts|tsx|jsx)$/, ".js"],
  [/\.mts$/, ".mjs"],
  [/\.cts$/, ".cjs"],
];
const declaration = /\.d(?:\.[^./]+)?\.[mc]?ts$/;

/** Null where nothing is to be transpiled: such trees pay nothing. EbbError deploy_refused where two files want one name. */
export function planTranspile(tree: Tree, typescriptPackages: ReadonlySet<string>): TranspilePlan | null {
  const files: TranspileFile[] = [];
  const inputs: string[] = [];
  const modules: string[] = [];
  const taken = new Map<string, string>();
  let bytes = 0;
  for (const [path, entry] of tree) {
    if (entry.kind !== "file") continue;
    if (isConfiguration(path)) inputs.push(path);
    if (path.endsWith(".mjs") && packageOf(path) === null) modules.push(path);
    const output = outputOf(path);
    if (output === null || !isOurs(path, typescriptPackages)) continue;
    const other = taken.get(output) ?? (tree.has(output) ? output : undefined);
    if (other !== undefined)
      throw new EbbError(
        "deploy_refused",
        `${quote(path)} becomes ${quote(output)}, and ${other === output ? "that is there already" : `so does ${quote(other)}`}; remove one of them, or name it in .ebbignore`,
      );
    taken.set(output, path);
    files.push({ path, output });
    inputs.push(path);
    bytes += entry.bytes;
  }
  if (files.length === 0) return null;
  if (files.length > deployLimits.transpileFiles)
    throw new EbbError("deploy_refused", `more than ${deployLimits.transpileFiles} TypeScript files`);
  if (bytes > deployLimits.transpileBytes)
    throw new EbbError("deploy_refused", `more than ${deployLimits.transpileBytes} bytes of TypeScript`);
  // Sorted: the same tree makes the same request, whatever order it came in.
  return { files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)), inputs, modules };
}

/** Null: it is left as it is. */
export function outputOf(path: string): string | null {
  if (declaration.test(path)) return null;
  for (const [ending, becomes] of endings) if (ending.test(path)) return path.replace(ending, becomes);
  return null;
}

function isConfiguration(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (name === "package.json") return !path.includes("node_modules/");
  // Any name may be extended from; those in packages are called tsconfig by custom.
  return (
    /^(?:ts|js)config[\w.-]*\.json$/.test(name) ||
    (name.endsWith(".json") && /(?:^|\/)node_modules\/@tsconfig\//.test(path))
  );
}

/** Packages are JavaScript already, but for those of a workspace whose package.json leads to TypeScript. */
function isOurs(path: string, typescriptPackages: ReadonlySet<string>): boolean {
  const owner = packageOf(path);
  return owner === null || typescriptPackages.has(owner);
}

/** The folder of the innermost package under node_modules that a file is of; null: it is of none. */
export function packageOf(path: string): string | null {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? null;
}

/** Packages under node_modules with TypeScript in them that is not declarations: their package.json decides. */
export function packagesWithTypescript(tree: Tree): string[] {
  const found = new Set<string>();
  for (const [path, entry] of tree) {
    const owner = entry.kind === "file" && outputOf(path) !== null ? packageOf(path) : null;
    if (owner !== null && tree.get(`${owner}/package.json`)?.kind === "file") found.add(owner);
  }
  return [...found];
}

/** Whether main or exports lead to TypeScript: Node refuses that under node_modules, so it can only be meant to be transpiled. */
export function leadsToTypescript(packageJson: unknown): boolean {
  if (typeof packageJson !== "object" || packageJson === null) return false;
  const { main, exports } = packageJson as { main?: unknown; exports?: unknown };
  const open: unknown[] = [main, exports];
  for (let visits = 0; open.length > 0 && visits < 10_000; visits++) {
    const value = open.pop();
    if (typeof value === "string" && outputOf(value) !== null) return true;
    if (typeof value === "object" && value !== null)
      for (const [key, inner] of Object.entries(value)) if (key !== "types") open.push(inner);
  }
  return false;
}
