// A folder of code as a deploy would store it: readable by anyone, and with the packages that its package.json asks for.

import { chmodSync, cpSync, existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const project = fileURLToPath(new URL("../..", import.meta.url));

/** The handlers' packages are the project's own: outside, Node finds them further up; a sandbox has them in its tree. */
export function copyTree(from: string, to: string): void {
  cpSync(from, to, { recursive: true });
  for (const folder of packagesOf(dependenciesOf(from)))
    cpSync(folder, join(to, relative(project, folder)), { recursive: true });
  chmodSync(to, 0o755);
  for (const entry of readdirSync(to, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink()) readable(join(entry.parentPath, entry.name));
}

/** For everyone, as an umask of 022 leaves it. */
function readable(path: string): void {
  const executable = (statSync(path).mode & 0o100) !== 0;
  chmodSync(path, executable ? 0o755 : 0o644);
}

function dependenciesOf(folder: string): string[] {
  const manifest = join(folder, "package.json");
  if (!existsSync(manifest)) return [];
  const { dependencies = {} } = JSON.parse(readFileSync(manifest, "utf8")) as { dependencies?: Record<string, string> };
  return Object.keys(dependencies);
}

/** Folders of these packages and all that they need, found as Node finds them. */
function packagesOf(names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const add = (name: string, from: string): void => {
    const folder = findPackage(name, from);
    if (folder === null || found.has(folder)) return;
    found.add(folder);
    for (const needed of dependenciesOf(folder)) add(needed, folder);
  };
  for (const name of names) add(name, project);
  return found;
}

/** null: optional, and not installed. */
function findPackage(name: string, from: string): string | null {
  for (let at = from; at.length >= project.length - 1; at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    if (existsSync(folder)) return folder;
  }
  return null;
}
