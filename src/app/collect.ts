// From a path on this machine to what deploy sends: the app file as read, notes for the reader, and a gzipped tar that streams.

import { constants } from "node:fs";
import { type FileHandle, lstat, open, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { finished, type Readable, type Writable } from "node:stream";
import { createGzip } from "node:zlib";
import { type Pack, pack as createPack } from "tar-stream";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { AppFile } from "./door.ts";
import { readApp, sentenceOf } from "./read.ts";
import { Collection, type Item, projectOf, Walk } from "./walk.ts";

export interface Collected {
  /** app: a folder with ebb.yaml; folder, file: one plain function. */
  readonly kind: "app" | "folder" | "file";
  readonly app: AppFile | null;
  /** What a plain function is named after (see nameOf): its folder or file. */
  readonly base: string;
  readonly files: number;
  /** Before packing. */
  readonly bytes: number;
  readonly notes: readonly string[];
  /** Gzipped tar; the same for the same files. Reads while it is read, and fails when a file changes meanwhile. */
  readonly archive: Readable;
}

const appFile = "ebb.yaml";

/** EbbError in the caller's words: not_found, bad_request, invalid_app (all problems, a line each), payload_too_large. */
export async function collect(path: string): Promise<Collected> {
  const at = resolve(path);
  const found = await stat(at).catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? ""))
      throw new EbbError("not_found", `there is nothing at ${path}`);
    throw error;
  });
  const collection = new Collection();
  let app: AppFile | null = null;
  let kind: Collected["kind"] = "folder";
  if (found.isFile() && basename(at) === appFile) return collect(dirname(at));
  if (found.isFile()) {
    kind = "file";
    collection.add({ kind: "file", path: basename(at), at, executable: (found.mode & 0o111) !== 0, bytes: found.size });
  } else if (!found.isDirectory()) throw new EbbError("bad_request", `${path} is neither a folder nor a file`);
  else {
    const text = await readAppFile(at);
    if (text === null) {
      if (await isThere(join(at, "ebb.yml")))
        throw new EbbError("invalid_app", `ebb.yml is not read; call it ${appFile}`);
      await collectPlain(at, collection);
    } else {
      kind = "app";
      app = parsed(text);
      await collectApp(at, app, collection);
    }
  }
  const items = collection.sorted();
  return {
    kind,
    app,
    base: basename(at),
    files: items.filter((item) => item.kind !== "folder").length,
    bytes: collection.bytes,
    notes: collection.notes(),
    archive: archiveOf(items),
  };
}

function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function readAppFile(folder: string): Promise<string | null> {
  const path = join(folder, appFile);
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  });
  if (found === null) return null;
  if (!found.isFile()) throw new EbbError("invalid_app", `${appFile} is not a file`);
  if (found.size > deployLimits.appFileBytes)
    throw new EbbError("invalid_app", `${appFile}:1: expected at most ${deployLimits.appFileBytes} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (error instanceof TypeError) throw new EbbError("invalid_app", `${appFile}:1: expected UTF-8 text`);
    throw error;
  }
}

function parsed(text: string): AppFile {
  const read = readApp(text, appFile);
  if (read.ok) return read.app;
  throw new EbbError("invalid_app", read.problems.map(sentenceOf).join("\n"), { extra: { problems: read.problems } });
}

async function collectPlain(folder: string, into: Collection): Promise<void> {
  await new Walk(into, await projectOf(folder)).folder(folder, ".", folder);
  if (into.items.size === 0) throw new EbbError("bad_request", `there is nothing to deploy in ${folder}`);
  await noteDependencies(folder, basename(folder), ".", into);
}

async function collectApp(folder: string, app: AppFile, into: Collection): Promise<void> {
  const file = await stat(join(folder, appFile));
  into.add({ kind: "file", path: appFile, at: join(folder, appFile), executable: false, bytes: file.size });
  const project = await projectOf(folder);
  const sources = [...app.functions, ...(app.jobs ?? []), ...(app.containers ?? [])].flatMap((declaration) => {
    const { name } = declaration;
    if ("source" in declaration) return [{ name, source: declaration.source }];
    return declaration.from.kind === "registry" ? [] : [{ name, source: declaration.from.path }];
  });
  for (const { name, source } of sources) {
    const at = join(folder, source);
    const found = await lstat(at).catch((error: unknown) => {
      if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return null;
      throw error;
    });
    if (found === null) throw new EbbError("bad_request", `${name}: there is nothing at ${source}`);
    if (source !== ".") addParents(source, into);
    if (found.isFile())
      into.add({ kind: "file", path: source, at, executable: (found.mode & 0o111) !== 0, bytes: found.size });
    else if (found.isDirectory()) {
      if (source !== ".") into.add({ kind: "folder", path: source });
      await new Walk(into, project).folder(at, source, folder);
      await noteDependencies(at, name, source, into);
    } else
      throw new EbbError(
        "bad_request",
        `${name}: ${source} is ${found.isSymbolicLink() ? "a link; name what it leads to" : "neither a folder nor a file"}`,
      );
  }
}

function addParents(path: string, into: Collection): void {
  for (let slash = path.indexOf("/"); slash > 0; slash = path.indexOf("/", slash + 1))
    into.add({ kind: "folder", path: path.slice(0, slash) });
}

/** Dependencies without their packages: the load check would say so too, only later and one at a time. */
async function noteDependencies(folder: string, name: string, source: string, into: Collection): Promise<void> {
  let dependencies: unknown;
  try {
    dependencies = (
      JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { dependencies?: unknown } | null
    )?.dependencies;
  } catch {
    return; // none, or it cannot be read: whoever needs it will say so
  }
  if (typeof dependencies !== "object" || dependencies === null) return;
  const prefix = source === "." ? "" : `${source}/`;
  const missing = Object.keys(dependencies).filter((one) => !into.items.has(`${prefix}node_modules/${one}`));
  if (missing.length === 0) return;
  const shown = missing.slice(0, 5).join(", ");
  into.note(
    `${name}: node_modules has no ${shown}${missing.length > 5 ? ` (and ${missing.length - 5} more)` : ""}. Run npm install in ${source === "." ? folder : `./${source}`}, then deploy.`,
  );
}

const epoch = new Date(0);

function archiveOf(items: readonly Item[]): Readable {
  const pack = createPack();
  // Level 1: four times as fast as the default, for a tenth more bytes; most deploys go over loopback.
  const gzip = createGzip({ level: 1 });
  pack.on("error", (error) => gzip.destroy(error));
  finished(gzip, { readable: false }, () => pack.destroy());
  gzip.once("close", () => pack.destroy());
  pack.pipe(gzip);
  fill(pack, items).catch((error: unknown) => gzip.destroy(error instanceof Error ? error : new Error(String(error))));
  return gzip;
}

async function fill(pack: Pack, items: readonly Item[]): Promise<void> {
  for (const item of items) {
    if (pack.destroyed) return;
    const common = { mtime: epoch, uid: 0, gid: 0 };
    if (item.kind === "folder") pack.entry({ ...common, name: item.path, type: "directory", mode: 0o755 });
    else if (item.kind === "symlink")
      pack.entry({ ...common, name: item.path, type: "symlink", linkname: item.target, mode: 0o777 });
    else
      await send(pack, item, { ...common, name: item.path, size: item.bytes, mode: item.executable ? 0o755 : 0o644 });
  }
  pack.finalize();
}

async function send(
  pack: Pack,
  item: Extract<Item, { kind: "file" }>,
  header: Parameters<Pack["entry"]>[0],
): Promise<void> {
  const file = await open(item.at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw new EbbError("bad_request", `${item.path} cannot be read: ${errnoOf(error) ?? "unknown error"}`, {
        cause: error,
      });
    },
  );
  try {
    const sent = new Promise<void>((done, failed) => {
      const sink = pack.entry(header, (error) => (error ? failed(error) : done())) as unknown as Writable;
      sink.on("error", failed);
      copy(file, item, sink).catch((error: unknown) => {
        failed(error);
        sink.destroy(error instanceof Error ? error : undefined);
      });
    });
    await sent;
  } finally {
    await file.close();
  }
}

/** Exactly as many bytes as the header has said, or an error that says why not. */
async function copy(file: FileHandle, item: Extract<Item, { kind: "file" }>, sink: Writable): Promise<void> {
  const changed = (): EbbError =>
    new EbbError("conflict", `${item.path} changed while it was being sent; deploy again`);
  const found = await file.stat();
  if (!found.isFile() || found.size !== item.bytes) throw changed();
  for (let at = 0; at < item.bytes;) {
    const buffer = Buffer.allocUnsafe(Math.min(64 * 1024, item.bytes - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw changed();
    at += bytesRead;
    if (!sink.write(buffer.subarray(0, bytesRead))) await drained(sink);
  }
  sink.end();
}

function drained(sink: Writable): Promise<void> {
  return new Promise((done, failed) => {
    const closed = (): void => failed(new Error("nobody reads the archive any more"));
    sink.once("close", closed);
    sink.once("drain", () => {
      sink.off("close", closed);
      done();
    });
  });
}
