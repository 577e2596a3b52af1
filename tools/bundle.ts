// Makes one file of each package that comes as hundreds: in node_modules its entry is replaced by the bundle. Set-up runs it; where it
// could not, the package is loaded file by file and works the same. docs/decisions/packages.md says why.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** Their entries, as Node finds them from an `import`. */
export const bundled = {
  kysely: "dist/esm/index.js",
  yaml: "dist/index.js",
  semver: "index.js",
  fastify: "fastify.js",
} as const;

const mark = "// Bundled by ebb's set-up (tools/bundle.ts).\n";

/** Of a package's own files alone: what it takes from others it takes as before, when it did. */
export async function bundle(entry: string): Promise<void> {
  if (isBundled(entry)) return;
  const esModule = typeIn(dirname(entry)) === "module";
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    packages: "external",
    platform: "node",
    target: "node26",
    format: esModule ? "esm" : "cjs",
    write: false,
    logLevel: "silent",
  });
  const text = mark + outputFiles[0]!.text + (esModule ? "" : namesOf(entry));
  // A link to a file that other installations share is cut, and nobody reads half of it.
  const made = `${entry}.${process.pid}`;
  writeFileSync(made, text);
  renameSync(made, entry);
}

export function isBundled(entry: string): boolean {
  return readFileSync(entry, "utf8").startsWith(mark);
}

/** An ES module's import finds the names of CommonJS by reading its text, not by running it. */
function namesOf(entry: string): string {
  const exported = Object.keys(createRequire(entry)(entry) as object).filter(
    // Its default is module.exports itself, told or not.
    (name) => /^[a-z_$][\w$]*$/i.test(name) && name !== "default",
  );
  return `\n0 && (module.exports = { ${exported.join(", ")} });\n`;
}

/** What the nearest package.json says of a .js file. */
function typeIn(folder: string): string | undefined {
  try {
    return (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { type?: string }).type;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return typeIn(dirname(folder));
  }
}

if (import.meta.main) {
  const packages = fileURLToPath(new URL("../node_modules", import.meta.url));
  for (const [name, entry] of Object.entries(bundled)) await bundle(join(packages, name, entry));
}
