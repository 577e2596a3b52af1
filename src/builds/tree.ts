// A tree of code as a value: paths, kinds and contents by their hash; and its digest, which names it in the code store.

import { createHash } from "node:crypto";
import { refuseArchive, quote } from "./tar.ts";

export type TreeEntry =
  | { readonly kind: "folder" }
  | {
      readonly kind: "file";
      readonly executable: boolean;
      readonly bytes: number;
      /** SHA-256 of the contents, hex. */
      readonly hash: string;
      /** Absolute path where the contents are now. */
      readonly at: string;
    }
  | { readonly kind: "symlink"; readonly target: string };

/** Relative paths with "/" between, without "." and "..", to what is there. Every folder above an entry is in it too. */
export type Tree = ReadonlyMap<string, TreeEntry>;

export interface TreeSize {
  readonly files: number;
  readonly bytes: number;
}

/** The same for the same names, x bits, contents and link targets; whoever packed them, when, and in which order. Empty folders count. */
export function digestOf(tree: Tree): string {
  const hash = createHash("sha256");
  for (const path of sortedPaths(tree)) {
    const entry = tree.get(path)!;
    if (entry.kind === "folder") hash.update(`d ${path}\0\n`);
    else if (entry.kind === "symlink") hash.update(`l ${path}\0${entry.target}\0\n`);
    else hash.update(`${entry.executable ? "x" : "f"} ${path}\0${entry.hash}\n`);
  }
  return hash.digest("hex");
}

/** By code unit: the same order on every machine, and a folder before what is in it. */
export function sortedPaths(tree: Tree): string[] {
  return [...tree.keys()].toSorted((a, b) => (a < b ? -1 : 1));
}

export function sizeOf(tree: Tree): TreeSize {
  let files = 0;
  let bytes = 0;
  for (const entry of tree.values())
    if (entry.kind === "file") {
      files += 1;
      bytes += entry.bytes;
    }
  return { files, bytes };
}

/** What is below `source` (or the one file that it is), as a tree of its own. EbbError where nothing is, or a link leads out of it. */
export function subtree(tree: Tree, source: string): Tree {
  if (source === ".") return tree;
  const found = tree.get(source);
  if (found === undefined) throw refuseArchive(`there is nothing at ${quote(source)}`);
  if (found.kind === "symlink") throw refuseArchive(`${quote(source)} is a link; name the folder or file itself`);
  if (found.kind === "file") return new Map([[source.slice(source.lastIndexOf("/") + 1), found]]);
  const below = new Map<string, TreeEntry>();
  const prefix = `${source}/`;
  for (const [path, entry] of tree) if (path.startsWith(prefix)) below.set(path.slice(prefix.length), entry);
  for (const [path, entry] of below)
    if (entry.kind === "symlink") {
      const refusal = refuseLink(below, path, entry.target);
      if (refusal !== null) throw refuseArchive(`${quote(`${source}/${path}`)} ${refusal}`);
    }
  return below;
}

const hopsMax = 40; // as the kernel's

/**
 * Why a link must not be in the tree; null when it may. Resolved in memory, component by component, over the tree as it
 * will be: a path that was never asked of a file system cannot be raced or led astray. It may lead nowhere, but not out.
 */
export function refuseLink(tree: Tree, path: string, target: string): string | null {
  if (target === "") return "is a link to nothing";
  if (target.includes("\0")) return "is a link with a NUL character in it";
  if (target.startsWith("/")) return `is a link to the absolute path ${quote(target)}`;
  const at = path.split("/").slice(0, -1);
  const todo = target.split("/").toReversed();
  let hops = 0;
  while (todo.length > 0) {
    const part = todo.pop()!;
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (at.pop() === undefined) return `is a link that leads out: ${quote(target)}`;
      continue;
    }
    at.push(part);
    const here = tree.get(at.join("/"));
    if (here === undefined && todo.includes("..")) return `is a link through what is not there: ${quote(target)}`;
    if (here?.kind !== "symlink") continue;
    hops += 1;
    if (hops > hopsMax) return `is a link in a circle: ${quote(target)}`;
    if (here.target.startsWith("/")) return `is a link that leads out: ${quote(target)}`;
    at.pop();
    for (const piece of here.target.split("/").toReversed()) todo.push(piece);
    if (todo.length > 10_000) return `is a link in a circle: ${quote(target)}`;
  }
  return null;
}
