// What of a local folder is sent: everything but what is never sent and what .ebbignore names; links kept inside, copied from outside.

import { lstat, readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import { dirname, join, posix, relative, sep } from "node:path";
import ignore, { type Ignore } from "ignore";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";

export type Item =
  | { readonly kind: "folder"; readonly path: string }
  | {
      readonly kind: "file";
      readonly path: string;
      readonly at: string;
      readonly executable: boolean;
      readonly bytes: number;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string };

/** An .ebbignore, and the folder of this machine that its patterns start from. */
interface Rules {
  readonly folder: string;
  readonly rules: Ignore;
}

/** A folder of this machine and what it is called in the archive. */
interface Mapping {
  readonly real: string;
  readonly path: string;
}

const ignoreFile = ".ebbignore";
const ignoreBytes = 64 * 1024;
const notesMax = 20;

/** Counts what several walks of one deploy collect together. */
export class Collection {
  readonly items = new Map<string, Item>();
  readonly #notes: string[] = [];
  #unsaid = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(item: Item): void {
    if (this.items.has(item.path)) return; // two functions of one folder
    if (Buffer.byteLength(item.path) > deployLimits.pathBytes || item.path.split("/").length > deployLimits.pathDepth)
      throw tooMuch(`${item.path.slice(0, 120)}… is too long a path, or too deep`);
    this.items.set(item.path, item);
    if (this.items.size > deployLimits.entries) throw tooMuch(`there are more than ${deployLimits.entries} files`);
    if (item.kind !== "file") return;
    this.#bytes += item.bytes;
    if (this.#bytes > deployLimits.unpackedBytes)
      throw tooMuch(`there are more than ${deployLimits.unpackedBytes} bytes`);
  }

  note(text: string): void {
    if (this.#notes.length < notesMax) this.#notes.push(text);
    else this.#unsaid += 1;
  }

  notes(): string[] {
    return this.#unsaid === 0 ? [...this.#notes] : [...this.#notes, `and ${this.#unsaid} more notes`];
  }

  sorted(): Item[] {
    return [...this.items.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  }
}

function tooMuch(what: string): EbbError {
  return new EbbError("payload_too_large", `${what}; name what the function does not need in ${ignoreFile}`);
}

/** Never sent, wherever it is: history, ebb's own data, and what .env files hold (secrets are set with `ebb secrets set`). */
function isNeverSent(name: string): boolean {
  return name === ".git" || name === ".ebb" || name === ignoreFile || name.startsWith(".env");
}

/** Walks one function's source. Its links lead to what is in it, or to copies of what is not. */
export class Walk {
  readonly #into: Collection;
  /** Code outside of it is copied only from here: its repository, or workspace. */
  readonly #project: string;
  readonly #mappings: Mapping[] = [];

  constructor(into: Collection, project: string) {
    this.#into = into;
    this.#project = project;
  }

  /** `top`: the folder whose .ebbignore is the outermost that counts. */
  async folder(at: string, path: string, top: string): Promise<void> {
    const real = await realpath(at);
    const rules: Rules[] = [];
    const between = relative(await realpath(top), real)
      .split(sep)
      .filter((part) => part !== "");
    for (let i = 0; i < between.length; i++)
      rules.push(...(await rulesOf(join(await realpath(top), ...between.slice(0, i)))));
    this.#mappings.push({ real, path });
    await this.#walk(real, path, rules);
  }

  async #walk(at: string, path: string, outer: readonly Rules[]): Promise<void> {
    const rules = [...outer, ...(await rulesOf(at))];
    const entries = (await readdir(at, { withFileTypes: true })).toSorted((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const from = join(at, entry.name);
      const to = path === "." ? entry.name : `${path}/${entry.name}`;
      if (isNeverSent(entry.name) || isIgnored(rules, from, entry.isDirectory())) continue;
      if (entry.name.includes("\uFFFD")) this.#into.note(`${to}: left out, its name is not UTF-8`);
      else if (entry.isDirectory()) {
        this.#into.add({ kind: "folder", path: to });
        await this.#walk(from, to, rules);
      } else if (entry.isFile()) await this.#file(from, to);
      else if (entry.isSymbolicLink()) await this.#link(from, to, rules);
      else this.#into.note(`${to}: left out, it is neither a file nor a folder nor a link`);
    }
  }

  async #file(at: string, path: string): Promise<void> {
    const { mode, size } = await lstat(at);
    this.#into.add({ kind: "file", path, at, executable: (mode & 0o111) !== 0, bytes: size });
  }

  async #link(at: string, path: string, rules: readonly Rules[]): Promise<void> {
    const target = await readlink(at);
    const real = await realpath(at).catch((error: unknown) => {
      if (["ENOENT", "ELOOP", "ENOTDIR", "EACCES"].includes(errnoOf(error) ?? "")) return null;
      throw error;
    });
    if (real === null)
      return this.#into.note(`${path}: left out, it is a link to ${target.slice(0, 120)}, which is not there`);
    const inside = this.#pathOf(real);
    if (inside !== null) {
      // As the shortest way from here: an absolute target, or one by way of outside, would not hold elsewhere.
      const to = posix.relative(posix.dirname(path), inside);
      return this.#into.add({ kind: "symlink", path, target: to === "" ? "." : to });
    }
    const found = await stat(real);
    if (!(await this.#mayCopy(path, real, found.isDirectory())))
      return this.#into.note(`${path}: left out, it is a link to ${real}, outside of ${this.#project}`);
    if (found.isFile()) return this.#file(real, path);
    if (!found.isDirectory())
      return this.#into.note(`${path}: left out, it leads to something that is neither a file nor a folder`);
    if (this.#mappings.some((mapping) => isWithin(mapping.real, real)))
      throw new EbbError(
        "bad_request",
        `${path} is a link to ${real}, a folder that holds it; take the link away, or name it in ${ignoreFile}`,
      );
    this.#into.note(`${path}: copied from ${real}`);
    this.#into.add({ kind: "folder", path });
    this.#mappings.push({ real, path });
    await this.#walk(real, path, rules);
  }

  /** Where in the archive a path of this machine is; null: it is not in it. */
  #pathOf(real: string): string | null {
    const mapping = this.#mappings
      .filter((one) => isWithin(real, one.real))
      .toSorted((a, b) => b.real.length - a.real.length)[0];
    if (mapping === undefined) return null;
    const rest = relative(mapping.real, real).split(sep).join("/");
    return posix.join(mapping.path, rest);
  }

  /** A folder that somebody gave you must not be able to send your other files away: only its own project, and linked packages. */
  async #mayCopy(path: string, real: string, isFolder: boolean): Promise<boolean> {
    if (isWithin(real, this.#project)) return true;
    const isPackage = /(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/]+$/.test(path);
    return (
      isPackage &&
      isFolder &&
      (await stat(join(real, "package.json")).then(
        (found) => found.isFile(),
        () => false,
      ))
    );
  }
}

/**
 * For who watches a folder: would this path of it (relative to `top`, with "/") be sent, as things are now? Rules are read anew each
 * time, for they are files that change too. A path that is gone counts as the file that it was.
 */
export async function isSent(top: string, path: string): Promise<boolean> {
  const parts = path.split("/");
  const rules: Rules[] = [];
  for (let i = 0; i < parts.length; i++) {
    rules.push(...(await rulesOf(join(top, ...parts.slice(0, i)))));
    const at = join(top, ...parts.slice(0, i + 1));
    const isFolder =
      i < parts.length - 1 ||
      (await lstat(at).then(
        (found) => found.isDirectory(),
        () => false,
      ));
    if (isNeverSent(parts[i]!) || isIgnored(rules, at, isFolder)) return false;
  }
  return true;
}

/** True where `path` is `folder` or below it; both absolute and real. */
export function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === sep ? sep : folder + sep);
}

async function rulesOf(folder: string): Promise<Rules[]> {
  const text = await readFile(join(folder, ignoreFile), "utf8").catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return null;
    throw error;
  });
  if (text === null) return [];
  if (text.length > ignoreBytes)
    throw new EbbError("bad_request", `${join(folder, ignoreFile)} has more than ${ignoreBytes} bytes`);
  return [{ folder, rules: ignore().add(text) }];
}

/** As with .gitignore: a deeper file has the last word. */
function isIgnored(rules: readonly Rules[], at: string, isFolder: boolean): boolean {
  let ignored = false;
  for (const { folder, rules: own } of rules) {
    const path = relative(folder, at).split(sep).join("/");
    if (path === "" || path.startsWith("../")) continue; // copied from elsewhere: its own files count
    const verdict = own.test(isFolder ? `${path}/` : path);
    if (verdict.ignored) ignored = true;
    else if (verdict.unignored) ignored = false;
  }
  return ignored;
}

/** The nearest folder above that is a repository or a workspace; the folder itself where there is none. */
export async function projectOf(folder: string): Promise<string> {
  const real = await realpath(folder);
  for (let at = real; ; at = dirname(at)) {
    for (const mark of [".git", "pnpm-workspace.yaml"])
      if (
        await lstat(join(at, mark)).then(
          () => true,
          () => false,
        )
      )
        return at;
    if (await hasWorkspaces(join(at, "package.json"))) return at;
    if (at === dirname(at)) return real;
  }
}

async function hasWorkspaces(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).size > 1024 * 1024) return false;
    return (JSON.parse(await readFile(path, "utf8")) as { workspaces?: unknown } | null)?.workspaces !== undefined;
  } catch {
    return false; // not there, or not to be read: no workspace
  }
}
