// TypeScript and JSX -> JavaScript with source maps, by esbuild in a sandbox of its own. Trees without any pay nothing.

import { createHash } from "node:crypto";
import { chmod, link, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Fleet } from "#fleet/door.ts";
import { eachLimited } from "#lib/each-limited.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { OneOff } from "#sandbox/door.ts";
import { readFrames, sentenceOf, type Transpiled } from "./frames.ts";
import { leadsToTypescript, packagesWithTypescript, planTranspile, type TranspilePlan } from "./transpile-plan.ts";
import type { Tree, TreeEntry } from "./tree.ts";

/** Where the transpiler's parts are on this machine, and Node inside the sandbox. */
export interface Toolbox {
  /** Absolute path of Node inside a sandbox of runtime node26. */
  readonly node: string;
  /** Folder that holds transpile.mjs and the others. */
  readonly programs: string;
  /** Folder of the npm package esbuild. */
  readonly esbuild: string;
  /** Folder of esbuild's package for this machine (@esbuild/linux-x64); its program is bin/esbuild. */
  readonly esbuildProgram: string;
}

const packageJsonBytes = 1024 * 1024;
const atOnce = 8;
/** Inside the sandbox. Every path in its arguments and environment begins with one of these, so that a driver without mounts can put its own there. */
const inside = {
  programs: "/tmp/programs",
  esbuild: "/tmp/esbuild",
  native: "/tmp/esbuild-program",
  source: "/tmp/source",
  plan: "/tmp/plan",
};

export interface TranspiledTree {
  readonly tree: Tree;
  readonly transpiled: number;
}

/**
 * The tree as it will run. `work`: a fresh folder for what is made; it must outlive the use of the tree.
 * Each source is replaced by its JavaScript, a source map, and a link under its old name: so `import "./x.ts"`, a handler
 * index.ts and a worker's URL find the JavaScript, without a single specifier being parsed or rewritten (Node resolves
 * links before it asks what a file is).
 */
export async function transpile(
  tree: Tree,
  work: string,
  toolbox: Toolbox,
  run: Fleet["run"],
): Promise<TranspiledTree> {
  const plan = planTranspile(tree, await typescriptPackagesOf(tree));
  if (plan === null) return { tree, transpiled: 0 };
  await stage(tree, plan, work);
  const result = await run(requestOf(work, toolbox));
  if (!result.ok) {
    const { failure } = result;
    const [code, whose] =
      failure.fault === "function"
        ? (["deploy_refused", "its TypeScript"] as const)
        : (["internal", "TypeScript"] as const);
    throw new EbbError(code, `${whose} could not be transpiled: ${failure.message}`, {
      cause: new Error(result.stderr.slice(0, 2_000)),
    });
  }
  const answer = readFrames(result.stdout, plan.files.length);
  if (!answer.ok)
    throw new EbbError("deploy_refused", sentenceOf(answer.count, answer.problems), {
      extra: { errors: answer.problems },
    });
  return { tree: await replace(tree, plan, answer.outputs, join(work, "out")), transpiled: plan.files.length };
}

async function typescriptPackagesOf(tree: Tree): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const folder of packagesWithTypescript(tree)) {
    const entry = tree.get(`${folder}/package.json`);
    if (entry?.kind !== "file" || entry.bytes > packageJsonBytes) continue;
    try {
      if (leadsToTypescript(JSON.parse(await readFile(entry.at, "utf8")))) found.add(folder);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error; // a broken package.json says nothing
    }
  }
  return found;
}

/** Only what the compiler needs, by links, readable for the sandbox's user whatever the umask was. */
async function stage(tree: Tree, plan: TranspilePlan, work: string): Promise<void> {
  const source = join(work, "source");
  const folders = new Set<string>();
  for (const path of plan.inputs) for (let at = dirname(path); at !== "."; at = dirname(at)) folders.add(at);
  for (const path of [".", ...[...folders].toSorted()]) {
    await mkdir(join(source, path), { recursive: true });
    await chmod(join(source, path), 0o755);
  }
  await eachLimited(plan.inputs, atOnce, async (path) => {
    const entry = tree.get(path) as Extract<TreeEntry, { kind: "file" }>;
    await link(entry.at, join(source, path));
    await chmod(join(source, path), entry.executable ? 0o755 : 0o644);
  });
  await writePlan(work, { files: plan.files.map(({ path }) => path), modules: plan.modules });
}

export async function writePlan(work: string, plan: unknown): Promise<void> {
  const folder = join(work, "plan");
  await mkdir(folder);
  await chmod(folder, 0o755);
  const file = join(folder, "plan.json");
  await writeFile(file, JSON.stringify(plan));
  await chmod(file, 0o644);
}

/** `program` of the toolbox, shown what stands in `source` and `plan` of the work folder. */
export function requestOf(work: string, toolbox: Toolbox, program = "transpile.mjs"): OneOff {
  return {
    pool: { runtime: "node26", memoryMb: deployLimits.transpileMemoryMb, tmpBytes: 16 * 1024 * 1024, egress: "none" },
    argv: [toolbox.node, `${inside.programs}/${program}`, inside.esbuild, inside.source, inside.plan],
    // Go takes a thread a core of the machine otherwise, and the sandbox's pids are counted.
    env: { ESBUILD_BINARY_PATH: `${inside.native}/bin/esbuild`, GOMAXPROCS: "2", GOMEMLIMIT: "256MiB" },
    mounts: [
      { source: toolbox.programs, target: inside.programs },
      { source: toolbox.esbuild, target: inside.esbuild },
      { source: toolbox.esbuildProgram, target: inside.native },
      { source: join(work, "source"), target: inside.source },
      { source: join(work, "plan"), target: inside.plan },
    ],
    timeoutMs: deployLimits.transpileSeconds * 1_000,
    outputBytes: deployLimits.transpileOutputBytes,
  };
}

async function replace(tree: Tree, plan: TranspilePlan, outputs: readonly Transpiled[], out: string): Promise<Tree> {
  const made = new Map(tree);
  const folders = new Set(plan.files.map(({ output }) => dirname(output)));
  for (const folder of folders) await mkdir(join(out, folder), { recursive: true });
  await eachLimited(plan.files, atOnce, async ({ path, output }, index) => {
    const { code, map } = outputs[index]!;
    const name = output.slice(output.lastIndexOf("/") + 1);
    const comment = Buffer.from(`//# sourceMappingURL=${encodeURIComponent(name)}.map\n`);
    const source = tree.get(path) as Extract<TreeEntry, { kind: "file" }>;
    made.set(path, { kind: "symlink", target: name });
    made.set(output, await written(join(out, output), Buffer.concat([code, comment]), source.executable));
    made.set(`${output}.map`, await written(join(out, `${output}.map`), map, false));
  });
  return made;
}

export async function written(at: string, contents: Uint8Array, executable: boolean): Promise<TreeEntry> {
  const file = await open(at, "wx", 0o644);
  try {
    await file.writeFile(contents);
  } finally {
    await file.close();
  }
  return {
    kind: "file",
    executable,
    bytes: contents.length,
    hash: createHash("sha256").update(contents).digest("hex"),
    at,
  };
}
