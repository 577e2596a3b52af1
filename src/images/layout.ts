// An OCI layout on the disk (index.json, blobs/sha256/…), read as something that may be hostile: bounded, checked against its digests,
// and no link is followed.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { chmod, copyFile, link, lstat, mkdir, open, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import { falseContent } from "./failures.ts";
import { choose, parseManifest, type Descriptor, type Manifest, type Platform } from "./manifest.ts";
import { isDigest } from "./reference.ts";

/** Indexes in indexes, as buildx writes them. */
const nestedMax = 4;

export interface Found {
  /** Of the manifest. */
  readonly digest: string;
  readonly manifest: Manifest;
}

/** The image of a layout that runs here. */
export async function readLayout(folder: string, here: Platform, name: string): Promise<Found> {
  // What was unpacked from a tar may have links for folders, and whoever reads here is root.
  for (const part of ["blobs", "blobs/sha256"]) {
    const found = await lstat(join(folder, part)).catch(() => null);
    if (found && !found.isDirectory()) throw new EbbError("image_refused", `${name} has no folder at ${part}`);
  }
  let read = parseManifest(await readSmall(join(folder, "index.json"), imageLimits.manifestBytes, name));
  let digest = "";
  for (let depth = 0; read.kind === "index"; depth++) {
    if (depth > nestedMax) throw new EbbError("image_refused", `${name} has an index in an index in an index`);
    const chosen: Descriptor = choose(read, here);
    digest = chosen.digest;
    read = parseManifest(await readBlob(folder, digest, imageLimits.manifestBytes, name));
  }
  if (digest === "") throw new EbbError("image_refused", `${name} has a manifest where its index should be`);
  return { digest, manifest: read };
}

export async function readBlob(folder: string, digest: string, bytesMax: number, name: string): Promise<string> {
  const text = await readSmall(blobPath(folder, digest), bytesMax, name);
  if (digestOf(text) !== digest) throw falseContent(name, null);
  return text;
}

export function blobPath(folder: string, digest: string): string {
  if (!isDigest(digest)) throw new EbbError("internal", "a digest that was never checked");
  return join(folder, "blobs", "sha256", digest.slice("sha256:".length));
}

export function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

export async function readSmall(path: string, bytesMax: number, name: string, what = "a file"): Promise<string> {
  try {
    // A named pipe or a device would be waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile() || stat.size > bytesMax)
        throw new EbbError("image_refused", `${what} of ${name} is no file, or larger than ${bytesMax} bytes`);
      return await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP")
      throw new EbbError("image_refused", `${name} is no OCI layout: a file that it should have is not there`);
    throw error;
  }
}

/** A layout of one image, called `image`; blobs of its layers are somebody else's to put there. */
export async function writeLayout(folder: string, configuration: string, layers: readonly Descriptor[]): Promise<void> {
  await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
  const put = async (text: string): Promise<{ readonly digest: string; readonly size: number }> => {
    const digest = digestOf(text);
    await writeFile(blobPath(folder, digest), text);
    return { digest, size: Buffer.byteLength(text) };
  };
  const type = "application/vnd.oci.image";
  const config = { mediaType: `${type}.config.v1+json`, ...(await put(configuration)) };
  const named = layers.map(({ digest, bytes: size }) => ({ mediaType: `${type}.layer.v1.tar`, digest, size }));
  const mediaType = `${type}.manifest.v1+json`;
  const manifest = await put(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: named }));
  const annotations = { "org.opencontainers.image.ref.name": "image" };
  await writeFile(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, manifests: [{ mediaType, ...manifest, annotations }] };
  await writeFile(join(folder, "index.json"), JSON.stringify(index));
}

/** Takes a layout's own files into `folder`, by links where that can be: what reads it then sees nothing else of the disk. */
export async function takeLayout(from: string, folder: string, name: string): Promise<void> {
  await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
  const listed = await readdir(join(from, "blobs", "sha256")).catch((): string[] => []);
  if (listed.length > 10 * imageLimits.layers)
    throw new EbbError("image_refused", `${name} has ${listed.length} blobs`);
  await takeFile(join(from, "index.json"), join(folder, "index.json"), name);
  for (const blob of listed) {
    if (!isDigest(`sha256:${blob}`)) continue;
    await takeFile(join(from, "blobs", "sha256", blob), join(folder, "blobs", "sha256", blob), name);
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  return link(from, to).then(
    () => true,
    () => false,
  );
}

/** Links or copies one regular file. */
export async function takeFile(from: string, to: string, name: string): Promise<void> {
  const refuse = (): EbbError => new EbbError("image_refused", `${name} has no file where it should have one`);
  try {
    let readable: boolean;
    const file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw refuse();
      readable = (stat.mode & 0o004) !== 0;
      if (stat.size > imageLimits.compressedBytes)
        throw new EbbError("image_refused", `${name} is larger than ebb takes`);
    } finally {
      await file.close();
    }
    // Read by one who is nobody here. What is linked is somebody else's too, who wants its mode as it is.
    if (readable && (await linked(from, to))) return;
    await copyFile(from, to, constants.COPYFILE_EXCL);
    await chmod(to, 0o644);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") throw refuse();
    throw error;
  }
}
