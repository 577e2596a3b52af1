// For tests: what images of examples are made of. The pinned Node in the place of the one that a registry would send, and the pinned
// packages in the place of those that `npm install` would fetch.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { installation } from "#config.ts";
import { layerOf, type Entry, type Layer } from "#images/images.testing.ts";

/** The pinned Node, the libraries that it names, and what is added. */
export async function nodeLayer(added: readonly Entry[] = []): Promise<Layer> {
  const { stdout } = spawnSync("ldd", [process.execPath], { encoding: "utf8" });
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
  const folders = new Set(["/bin", "/tmp", ...libraries.map((path) => dirname(path))]);
  return layerOf(
    [
      ...[...folders].map((path) => ({ name: path.slice(1), type: "directory" as const })),
      { name: "bin/node", mode: 0o755, content: readFileSync(process.execPath) },
      ...libraries.map((path) => ({ name: path.slice(1), mode: 0o755, content: readFileSync(path) })),
      ...added,
    ],
    "none",
  );
}

/** What `npm install` in the folder would fetch; the versions are those that are pinned here. */
export function install(folder: string): void {
  const manifestOf = (path: string) =>
    JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as {
      version: string;
      dependencies?: Record<string, string>;
    };
  for (const [name, version] of Object.entries(manifestOf(folder).dependencies ?? {}))
    assert.equal(manifestOf(join(installation, "node_modules", name)).version, version);
  const wanted = Object.keys(manifestOf(folder).dependencies ?? {});
  for (const name of wanted) {
    const from = join(installation, "node_modules", name);
    cpSync(from, join(folder, "node_modules", name), { recursive: true });
    for (const needs of Object.keys(manifestOf(from).dependencies ?? {}))
      if (!wanted.includes(needs)) wanted.push(needs);
  }
}
