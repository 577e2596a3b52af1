// Reads ebb's own source for the tests that hold its architecture: files, imports, first lines.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { installation } from "#config.ts";

export interface Import {
  readonly specifier: string;
  /** `import type` or `export type`: leaves nothing at run time. */
  readonly typeOnly: boolean;
  readonly line: number;
}

export interface SourceFile {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
  /** The folder directly under src/; null for the files beside the rooms, and outside src/. */
  readonly room: string | null;
  readonly isTest: boolean;
  readonly imports: readonly Import[];
}

/** Tracked and new files (not ignored ones) with one of these endings. */
export function sourceFiles(...endings: string[]): SourceFile[] {
  const listing = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], {
    cwd: installation,
    encoding: "utf8",
  });
  return listing
    .split("\n")
    .filter((path) => endings.some((ending) => path.endsWith(ending)))
    .map(readSource)
    .filter((file) => file !== null);
}

function readSource(path: string): SourceFile | null {
  let text: string;
  try {
    text = readFileSync(join(installation, path), "utf8");
  } catch {
    return null; // deleted in the work tree, still in the index
  }
  return {
    path,
    text,
    room: /^src\/([^/]+)\//.exec(path)?.[1] ?? null,
    isTest: /\.(test|soak|testing)\.ts$|\/suite\.ts$|\/testing\/|^test\/|\/fixtures\//.test(path),
    imports: importsOf(text),
  };
}

/** Static and dynamic imports with a literal specifier. */
export function importsOf(text: string): Import[] {
  const found: Import[] = [];
  const pattern =
    /^(?:import|export)\s+(type\s+)?(?:[^'"`;]*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;
  for (const match of text.matchAll(pattern)) {
    const specifier = match[2] ?? match[3] ?? "";
    // `import("x").Type` in a type position: the whole expression is a type.
    const inType = match[3] !== undefined && /^\s*\.\s*[A-Z]/.test(text.slice(match.index + match[0].length));
    found.push({
      specifier,
      typeOnly: match[1] !== undefined || inType,
      line: text.slice(0, match.index).split("\n").length,
    });
  }
  return found;
}

/** The path of an imported file relative to the root, or null where it is a package. */
export function resolveImport(from: SourceFile, specifier: string): string | null {
  if (specifier.startsWith("#")) return `src/${specifier.slice(1)}`;
  if (!specifier.startsWith(".")) return null;
  return relative(installation, resolve(installation, dirname(from.path), specifier));
}
