// A folder (or one file) as a gzipped tar: everything but .git, .ebb, .env*, and what .ebbignore says.

import { createReadStream } from "node:fs";
import { lstat, readFile, readdir, readlink, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { pipeline, type Readable } from "node:stream";
import { createGzip } from "node:zlib";
import ignore, { type Ignore } from "ignore";
import { pack, type Pack } from "tar-stream";
import { errnoOf } from "#lib/errno.ts";
import { deployLimits } from "#model/limits.ts";
import { Failure } from "./failure.ts";

const always = [".git", ".ebb", ".env", ".env.*", ".env*", ".DS_Store"];

interface Walk {
  readonly tar: Pack;
  readonly rules: Ignore;
  /** Real path of the tree: what is inside needs no copy. */
  readonly root: string;
  /** Real paths of the folders that are being copied now: a link to one of them would never end. */
  readonly open: Set<string>;
  entries: number;
}

/** Fails, as a stream error, with a Failure that names the file. */
export async function packTree(path: string): Promise<Readable> {
  const root = await realpath(path).catch((error: unknown) => {
    throw errnoOf(error) === "ENOENT" ? new Failure(`there is no ${path}`) : error;
  });
  const what = await stat(root);
  const tar = pack();
  const gzip = createGzip({ level: 5 });
  pipeline(tar, gzip, () => {});
  const work = what.isDirectory()
    ? rulesOf(root).then((rules) => folder({ tar, rules, root, open: new Set(), entries: 0 }, root, ""))
    : file(tar, root, basename(root), what);
  work.then(
    () => tar.finalize(),
    (error: unknown) => {
      const reason = error instanceof Error ? error : new Error(String(error));
      tar.destroy(reason);
      gzip.destroy(reason);
    },
  );
  return gzip;
}

/** Is this path (relative, with /) one that is sent? For `ebb dev`: what is not sent need not be watched. */
export async function rulesOf(root: string): Promise<Ignore> {
  const own = await readFile(join(root, ".ebbignore"), "utf8").catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  });
  return ignore().add(own).add(always);
}

async function folder(walk: Walk, path: string, name: string): Promise<void> {
  const real = await realpath(path);
  if (walk.open.has(real)) throw new Failure(`${path} is a link to a folder that contains it`);
  walk.open.add(real);
  for (const child of (await readdir(path)).toSorted()) {
    const childName = name === "" ? child : `${name}/${child}`;
    const childPath = join(path, child);
    const what = await lstat(childPath);
    if (walk.rules.ignores(what.isDirectory() ? `${childName}/` : childName)) continue;
    if ((walk.entries += 1) > deployLimits.entries)
      throw new Failure(
        `${walk.root} has more than ${deployLimits.entries} files; name what is not needed in .ebbignore`,
      );
    if (what.isSymbolicLink()) await link(walk, childPath, childName);
    else if (what.isDirectory()) await folder(walk, childPath, childName);
    else if (what.isFile()) await file(walk.tar, childPath, childName, what);
    // Sockets, FIFOs and devices are no code.
  }
  walk.open.delete(real);
}

/** Inside the tree a link stays a link; what it reaches outside (npm workspaces) is copied in its place. */
async function link(walk: Walk, path: string, name: string): Promise<void> {
  const target = await realpath(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ELOOP") return null;
    throw error;
  });
  if (target === null) throw new Failure(`${path} is a link to ${await readlink(path)}, which does not exist`);
  const within = (one: string): boolean => one === walk.root || one.startsWith(walk.root + sep);
  const inTree = resolve(dirname(path), await readlink(path));
  if (within(target) && within(inTree)) {
    const linkname = relative(dirname(join(walk.root, name)), inTree) || ".";
    await entry(walk.tar, { name, type: "symlink", linkname });
    return;
  }
  const what = await stat(target);
  if (what.isDirectory()) await folder(walk, target, name);
  else if (what.isFile()) await file(walk.tar, target, name, what);
}

async function file(
  tar: Pack,
  path: string,
  name: string,
  what: { size: number; mode: number; mtime: Date },
): Promise<void> {
  const sink = tar.entry({ name, size: what.size, mode: what.mode & 0o111 ? 0o755 : 0o644, mtime: what.mtime });
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  sink.on("finish", () => done());
  sink.on("error", reject);
  // `end` bounds a file that grows while it is read; one that shrinks makes tar-stream fail, as it should.
  if (what.size === 0) sink.end(Buffer.alloc(0));
  else
    createReadStream(path, { end: what.size - 1 })
      .on("error", reject)
      .pipe(sink);
  await promise.catch((error: unknown) => {
    throw new Failure(`${path} cannot be read: ${error instanceof Error ? error.message : "it changed"}`);
  });
}

function entry(tar: Pack, header: { name: string; type: "symlink"; linkname: string }): Promise<void> {
  return new Promise((done, reject) => {
    tar.entry(header, (error) => (error ? reject(error) : done(undefined)));
  });
}
