// The names that `recognise` looks at, read from a folder that somebody else filled: no link is followed, everything is bounded.

import { constants } from "node:fs";
import { lstat, open, opendir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { FunctionDeclaration } from "./door.ts";
import { recognise, type ListedFile, type Listing } from "./recognise.ts";

const manifestBytes = 1024 * 1024;

export interface RecognisedFolder {
  readonly runtime: RuntimeName;
  readonly entry: string | null;
  readonly handler: string | null;
  readonly command: readonly string[] | null;
  readonly notes: readonly string[];
}

/** `source`: absolute path of an unpacked folder or file. EbbError deploy_refused in words for the author. */
export async function recogniseFolder(source: string, declaration: FunctionDeclaration): Promise<RecognisedFolder> {
  const shown = declaration.source === "." ? "the folder" : declaration.source;
  const found = await lstat(source).catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return null;
    throw error;
  });
  if (found === null) throw new EbbError("deploy_refused", `${declaration.name}: there is nothing at ${shown}`);
  if (!found.isDirectory() && !found.isFile())
    throw new EbbError("deploy_refused", `${declaration.name}: ${shown} is neither a folder nor a file`);
  const listing = found.isFile()
    ? { files: [{ path: basename(source), executable: (found.mode & 0o111) !== 0 }], packageJson: null }
    : await listFolder(source);
  const recognition = recognise(listing, declaration);
  if (!recognition.ok) throw new EbbError("deploy_refused", `${declaration.name}: ${shown}: ${recognition.message}`);
  return recognition;
}

/** Files, without node_modules and hidden folders, and links to files as what they are called. */
export async function listFolder(folder: string): Promise<Listing> {
  const files: ListedFile[] = [];
  const todo: string[] = ["."];
  let visited = 0;
  for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
    const depth = at === "." ? 0 : at.split("/").length;
    for await (const entry of await opendir(join(folder, at))) {
      visited += 1;
      if (visited > deployLimits.entries)
        throw new EbbError("deploy_refused", `more than ${deployLimits.entries} files`);
      const path = at === "." ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) {
        if (entry.name !== "node_modules" && !entry.name.startsWith(".") && depth < 8) todo.push(path);
      } else if (entry.isFile()) {
        // Only a program at the top may be run by being there; nobody asks about the others.
        const executable = at === "." && ((await lstat(join(folder, path))).mode & 0o111) !== 0;
        files.push({ path, executable });
      } else if (entry.isSymbolicLink()) files.push({ path, executable: false });
    }
  }
  return {
    files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    packageJson: await readManifest(join(folder, "package.json")),
  };
}

async function readManifest(path: string): Promise<string | null> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (["ENOENT", "ELOOP"].includes(errnoOf(error) ?? "")) return null;
    throw error;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) return null;
    if (stat.size > manifestBytes)
      throw new EbbError(
        "deploy_refused",
        `${join(basename(dirname(path)), "package.json")} has more than ${manifestBytes} bytes`,
      );
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}
