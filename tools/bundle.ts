// Makes one file of each package that comes as hundreds: in node_modules its entry is replaced by the bundle. Set-up runs it; where it
// could not, the package is loaded file by file and works the same. docs/decisions/packages.md says why.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type PluginBuild } from "esbuild";

/** Their entries, as Node finds them from an `import`, and the packages that come with them: nobody else asks for those. */
export const bundled: Readonly<Record<string, { readonly entry: string; readonly having?: readonly string[] }>> = {
  kysely: { entry: "dist/esm/index.js" },
  yaml: { entry: "dist/index.js" },
  semver: { entry: "index.js" },
  fastify: {
    entry: "fastify.js",
    having: ["avvio", "find-my-way", "fast-querystring", "ret", "safe-regex2", "fastq", "@fastify/proxy-addr"],
  },
  "tar-stream": { entry: "index.js", having: ["streamx", "b4a", "fast-fifo", "text-decoder", "events-universal"] },
};

const mark = "// Bundled by ebb's set-up (tools/bundle.ts).\n";

/** Of a package's own files and of those that it is to have: what it takes from others it takes as before, when it did. */
export async function bundle(entry: string, having: readonly string[] = []): Promise<void> {
  if (isBundled(entry)) return;
  const esModule = typeIn(dirname(entry)) === "module";
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    plugins: [{ name: "others", setup: (made) => leaveOut(made, having) }],
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

function leaveOut(made: PluginBuild, having: readonly string[]): void {
  made.onResolve({ filter: /^[^./]/ }, ({ path, kind }) => {
    const [, name = path] = /^((?:@[^/]+\/)?[^/]+)/.exec(path) ?? [];
    return kind === "entry-point" || having.includes(name) ? undefined : { path, external: true };
  });
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
  for (const [name, { entry, having }] of Object.entries(bundled)) await bundle(join(packages, name, entry), having);
}
