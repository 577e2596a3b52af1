// A function and its dependencies -> one file, by esbuild in a sandbox of its own, for those who ask for it.

import { chmod, link, mkdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Fleet } from "#fleet/door.ts";
import { eachLimited } from "#lib/each-limited.ts";
import { EbbError } from "#model/errors.ts";
import { readFrames, sentenceOf } from "./frames.ts";
import { quote } from "./tar.ts";
import { packageOf } from "./transpile-plan.ts";
import { requestOf, type Toolbox, writePlan, written } from "./transpile.ts";
import type { Tree, TreeEntry } from "./tree.ts";

const atOnce = 8;

/**
 * `ran`: the tree as it would run without; `source`: as it was sent, which is what is bundled. The bundle stands beside the entry
 * file, and the entry becomes a link to it: what is read by its place, and packages that stay as their files, are found as before.
 * `work`: a fresh folder; it must outlive the use of the tree.
 */
export async function bundle(
  ran: Tree,
  source: Tree,
  entry: string,
  work: string,
  toolbox: Toolbox,
  run: Fleet["run"],
): Promise<Tree> {
  if (source.get(entry)?.kind !== "file")
    throw new EbbError("deploy_refused", `bundle: the entry ${quote(entry)} is not a file`);
  await stage(source, work);
  await writePlan(work, { entry, native: nativePackages(source) });
  const result = await run(requestOf(work, toolbox, "bundle.mjs"));
  if (!result.ok) {
    const { fault, message } = result.failure;
    throw new EbbError(fault === "function" ? "deploy_refused" : "internal", `it could not be bundled: ${message}`, {
      cause: new Error(result.stderr.slice(0, 2_000)),
    });
  }
  const answer = readFrames(result.stdout, 2);
  if (!answer.ok)
    throw new EbbError("deploy_refused", sentenceOf(answer.count, answer.problems), {
      extra: { errors: answer.problems },
    });
  const [made, words] = answer.outputs;
  const name = entry.slice(entry.lastIndexOf("/") + 1);
  const stem = entry.replace(/\.\w+$/, "");
  const output = `${stem}.bundle.${formatOf(words!.code) === "esm" ? "mjs" : "cjs"}`;
  const map = `${entry}.map`;
  for (const path of [output, map])
    if (ran.has(path))
      throw new EbbError("deploy_refused", `bundle: ${quote(path)} is what it would be called; rename it`);
  const out = join(work, "bundled");
  await mkdir(out);
  const comment = Buffer.from(`//# sourceMappingURL=${encodeURIComponent(name)}.map\n`);
  return new Map<string, TreeEntry>([
    ...ran,
    [entry, { kind: "symlink", target: output.slice(output.lastIndexOf("/") + 1) }],
    [output, await written(join(out, "code"), Buffer.concat([made!.code, comment]), false)],
    [map, await written(join(out, "map"), made!.map, false)],
  ]);
}

/** A tenant's bytes went through what says it: anything but the other word is the one. */
function formatOf(words: Uint8Array): "cjs" | "esm" {
  try {
    return (JSON.parse(Buffer.from(words).toString()) as { format?: unknown } | null)?.format === "esm" ? "esm" : "cjs";
  } catch {
    return "cjs";
  }
}

/** Packages with compiled code beside their JavaScript, which finds it by where it is itself. */
function nativePackages(tree: Tree): string[] {
  const found = new Set<string>();
  for (const path of tree.keys()) {
    const owner = /(?:\.node|\/binding\.gyp)$/.test(path) ? packageOf(path) : null;
    if (owner !== null) found.add(owner);
  }
  return [...found].toSorted();
}

/** All of it, by links, readable for the sandbox's user whatever the umask was. Links in a tree lead nowhere out of it. */
async function stage(tree: Tree, work: string): Promise<void> {
  const root = join(work, "source");
  const folders = new Set<string>(["."]);
  for (const [path, entry] of tree)
    for (let at = entry.kind === "folder" ? path : dirname(path); at !== "."; at = dirname(at)) folders.add(at);
  for (const path of [...folders].toSorted()) {
    await mkdir(join(root, path), { recursive: true });
    await chmod(join(root, path), 0o755);
  }
  await eachLimited([...tree], atOnce, async ([path, entry]) => {
    if (entry.kind === "symlink") return symlink(entry.target, join(root, path));
    if (entry.kind !== "file") return undefined;
    await link(entry.at, join(root, path));
    return chmod(join(root, path), entry.executable ? 0o755 : 0o644);
  });
}
