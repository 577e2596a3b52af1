// The steps of a fetch: what is it, may it come here, bring it, look at it again, unpack it, keep it. Whatever goes wrong, nothing stays.

import { chmod, chown, lstat, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { EbbError } from "#model/errors.ts";
import type { Clock } from "#model/clock.ts";
import { errnoOf } from "#lib/errno.ts";
import { randomHex } from "#model/ids.ts";
import { imageLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import type { FetchOptions, Image, RegistryLogin } from "./door.ts";
import type { RegistryEgress } from "./egress.ts";
import { falseContent, storageFull, type Subject } from "./failures.ts";
import { blobPath, digestOf, readBlob, readLayout, takeFile, takeLayout, type Found } from "./layout.ts";
import { choose, parseConfiguration, parseManifest, saysOnBuild, type Manifest, type Platform } from "./manifest.ts";
import { nameOf, parseReference, type Reference } from "./reference.ts";
import type { Run, Reader, Staging } from "./reader.ts";
import { RoomGuard } from "./room-guard.ts";
import type { RunStep } from "./staged-build.ts";
import type { StepCache } from "./step-cache.ts";
import { type ImageStore, type LayerRecord } from "./store.ts";
import type { Turns } from "./turns.ts";
import { unpackLayers } from "./unpack.ts";

export interface FetchContext {
  readonly store: ImageStore;
  readonly steps: StepCache;
  readonly reader: Reader;
  readonly egress: RegistryEgress;
  readonly spawner: Pick<Spawner, "exec">;
  readonly node: string;
  readonly clock: Clock;
  readonly platform: Platform;
  readonly unpacks: Turns;
  readonly project: string;
  readonly login: RegistryLogin | null;
  /** Where logins lie while a fetch needs them: it goes with this daemon, however that ends. */
  readonly logins: string;
  readonly progress: FetchOptions["progress"];
  readonly signal: AbortSignal;
  /** Runs one command of a build in a sandbox; null: nothing is run here. */
  readonly runStep: RunStep | null;
  readonly runMemoryMb: number;
  readonly buildMs: number;
}

export async function fetchRegistry(text: string, context: FetchContext): Promise<Image> {
  const { store, project } = context;
  return asking(text, context, async (run, reference) => {
    const found = await resolve(text, reference, run, context);
    const known = store.recordFor(found.digest, project);
    if (known) return store.addAgain(known, text, project);
    const here = new Map<string, LayerRecord>();
    for (const layer of found.manifest.layers) {
      const had = store.layerFor(layer.digest, project);
      if (had) here.set(layer.digest, had);
    }
    const unpin = store.pin([...here.values()].map(({ diffId }) => diffId));
    try {
      await pull(found, reference, here, run, context);
      return await keep(found, here, run, context);
    } finally {
      unpin();
    }
  });
}

/** Which image a name stands for now. */
export async function digestNow(text: string, context: FetchContext): Promise<string> {
  return asking(text, context, async (run, reference) => (await resolve(text, reference, run, context)).digest);
}

/**
 * Pulls an image to build on with every layer, whatever is here, and leaves its layout at `folder` beside what is kept of it. `digest`:
 * what its name stood for.
 */
export async function pullWhole(text: string, digest: string, folder: string, context: FetchContext): Promise<void> {
  await asking(text, context, async (run, named) => {
    const reference = { ...named, digest };
    const found = await resolve(text, reference, run, context);
    await pull(found, reference, new Map(), run, context);
    const { layout } = run.staging;
    const { manifest } = await readLayout(layout, context.platform, text);
    // buildah would do it, as far as it can: nothing of a base is to be heard but its files and settings.
    if (saysOnBuild(await readBlob(layout, manifest.config.digest, imageLimits.configBytes, text)))
      throw new EbbError("image_refused", `${text} cannot be built on: it says ONBUILD, which ebb does not take`);
    await keep(found, new Map(), run, context);
    await rename(run.staging.layout, folder);
  });
}

async function asking<T>(
  text: string,
  context: FetchContext,
  work: (run: Run, reference: Reference) => Promise<T>,
): Promise<T> {
  const reference = parseReference(text);
  await context.egress.admit(reference.registry);
  return withStaging(context, { name: text, registry: reference.registry }, (run) => work(run, reference));
}

/** Which image it is, and that it may come: what is wrong with it is said before its layers are asked for. */
async function resolve(text: string, reference: Reference, run: Run, context: FetchContext): Promise<Found> {
  const { reader, platform, progress } = context;
  progress(`asking ${reference.registry} for ${text}`);
  const first = await namedManifest(reader, run, nameOf(reference), reference.digest);
  const found = await resolved(first, platform, (chosen) =>
    namedManifest(reader, run, nameOf(reference, chosen), chosen),
  );
  // An index has said what it is for; of a bare manifest the configuration alone knows, and the layers may be large.
  if (first.digest === found.digest) {
    const source = `docker://${nameOf(reference, found.digest)}`;
    parseConfiguration(await reader.configuration(source, run), platform);
  }
  return found;
}

async function pull(
  { digest, manifest }: Found,
  reference: Reference,
  here: ReadonlyMap<string, LayerRecord>,
  run: Run,
  context: FetchContext,
): Promise<void> {
  const { reader, platform, progress } = context;
  const { name, registry } = run.subject;
  await pretend(run.staging, [...here.keys()], context);
  const coming = manifest.layers.filter((layer) => !here.has(layer.digest));
  const bytes = coming.reduce((sum, layer) => sum + layer.bytes, 0);
  if (!(await context.steps.room(run.staging.folder, bytes))) throw storageFull();
  const already = here.size === 0 ? "" : `, ${manifest.layers.length - coming.length} of them here already`;
  progress(`pulling ${name}: ${manifest.layers.length} layers${already}, ${megabytes(bytes)} MB to come`);
  const tell = paced((arrived) => progress(`pulling ${name}: ${megabytes(arrived)} of ${megabytes(bytes)} MB`));
  // Its manifest and its configuration come beside the layers.
  const bytesMax = bytes + imageLimits.configBytes + imageLimits.manifestBytes;
  await reader.copy(`docker://${nameOf(reference, digest)}`, run, { bytesMax, bytes: tell });
  // The manifest may have come in another form; what it names is the same.
  const copied = await readLayout(run.staging.layout, platform, name);
  const same = copied.manifest.layers.every((layer, index) => layer.digest === manifest.layers[index]?.digest);
  if (!same || copied.manifest.layers.length !== manifest.layers.length) throw falseContent(name, registry);
}

/** `docker save`, or a layout in a tar: the one is told from the other by trying. */
export async function fetchArchive(path: string, context: FetchContext): Promise<Image> {
  const subject: Subject = { name: basename(path), registry: null };
  return withStaging(context, subject, async (run) => {
    const { reader, platform, progress } = context;
    const file = join(run.staging.folder, "archive");
    await takeFile(path, file, subject.name);
    progress(`reading ${subject.name}`);
    const bounds = {
      bytesMax: imageLimits.unpackedBytes,
      bytes: paced((arrived) => progress(`reading ${subject.name}: ${megabytes(arrived)} MB`)),
    };
    try {
      await reader.copy(`docker-archive:${file}`, run, bounds);
    } catch (error) {
      if (!(error instanceof EbbError) || !/manifest\.json/.test(error.message)) throw error;
      await reader.extract(file, run, bounds);
    }
    return keep(await readLayout(run.staging.layout, platform, subject.name), new Map(), run, context);
  });
}

export async function fetchLayout(path: string, context: FetchContext): Promise<Image> {
  const subject: Subject = { name: basename(path), registry: null };
  return withStaging(context, subject, async (run) => {
    const layout = join(run.staging.folder, "given");
    await takeLayout(path, layout, subject.name);
    const given = { ...run, staging: { ...run.staging, layout } };
    return keep(await readLayout(layout, context.platform, subject.name), new Map(), given, context);
  });
}

/** What a layout holds becomes an image of ours, under the digest that it was found by. `here`: layers that are not in it because they are here, by their blob's digest. */
export async function keep(
  { digest }: Found,
  here: ReadonlyMap<string, LayerRecord>,
  { staging, subject, signal }: Run,
  context: FetchContext,
  builtFrom: string | null = null,
): Promise<Image> {
  const { store, platform, progress, project } = context;
  const { manifest } = await readLayout(staging.layout, platform, subject.name);
  const read = await readBlob(staging.layout, manifest.config.digest, imageLimits.configBytes, subject.name);
  const { config, diffIds } = parseConfiguration(read, platform);
  if (diffIds.length !== manifest.layers.length)
    throw new EbbError(
      "image_refused",
      `${subject.name} has ${manifest.layers.length} layers and names ${diffIds.length}`,
    );
  const unpin = store.pin(diffIds);
  try {
    const known = new Map<string, LayerRecord>();
    const missing = new Map<string, string>();
    for (const [index, diffId] of diffIds.entries()) {
      const blob = manifest.layers[index]!.digest;
      const found = here.get(blob) ?? store.layer(diffId, project);
      if (found && found.diffId !== diffId) throw falseContent(subject.name, subject.registry);
      if (found) known.set(diffId, { ...found, digest: blob });
      else missing.set(diffId, blob);
    }
    const left = { entries: imageLimits.entries, bytes: imageLimits.unpackedBytes };
    for (const layer of known.values()) {
      left.entries -= layer.entries;
      left.bytes -= layer.bytes;
    }
    if (missing.size > 0) {
      const blobs = [...missing].map(([diffId, blob]) => ({
        diffId,
        digest: blob,
        blob: blobPath(staging.layout, blob),
      }));
      await sizesFit(blobs, manifest, subject);
      const unpacked = await context.unpacks.take(signal, async () => {
        progress(`unpacking ${subject.name}: ${missing.size} ${missing.size === 1 ? "layer" : "layers"}`);
        const folder = join(staging.folder, "unpacked");
        const guard = new RoomGuard({ staging, subject, signal }, context.clock, context.steps.room);
        try {
          return await unpackLayers({ ...context, subject, signal: guard.signal, folder, blobs, left });
        } finally {
          guard.end();
        }
      });
      for (const layer of unpacked) {
        await store.addLayer(layer.folder, layer.record.diffId);
        known.set(layer.record.diffId, layer.record);
      }
    }
    signal.throwIfAborted();
    const layers = diffIds.map((diffId) => known.get(diffId)!);
    return await store.add({ digest, reference: subject.name, config, layers, builtFrom }, project);
  } finally {
    unpin();
  }
}

interface Named {
  readonly digest: string;
  readonly text: string;
}

async function namedManifest(reader: Reader, run: Run, name: string, wanted: string | null): Promise<Named> {
  const text = await reader.manifest(`docker://${name}`, run);
  const digest = digestOf(text);
  if (wanted !== null && digest !== wanted) throw falseContent(run.subject.name, run.subject.registry);
  return { digest, text };
}

/** From what a name stands for to the one image that runs here. */
async function resolved(first: Named, platform: Platform, next: (digest: string) => Promise<Named>): Promise<Found> {
  let named = first;
  for (let depth = 0; depth < 4; depth++) {
    const read = parseManifest(named.text);
    if (read.kind === "image") return { digest: named.digest, manifest: read };
    named = await next(choose(read, platform).digest);
  }
  throw new EbbError("image_refused", "the image's index leads to indexes only");
}

/** skopeo fetches no blob that is there: an empty file says so of what is here, unpacked. */
async function pretend({ layout }: Staging, digests: readonly string[], { reader }: FetchContext): Promise<void> {
  if (digests.length === 0) return;
  const folders = [join(layout, "blobs"), join(layout, "blobs", "sha256")];
  for (const folder of folders) {
    await mkdir(folder, { mode: 0o700 });
    await chown(folder, reader.uid, reader.uid);
  }
  for (const digest of digests) await writeFile(blobPath(layout, digest), "");
}

/** A blob of another length than its manifest says is a lie, and cheap to see. */
async function sizesFit(
  blobs: ReadonlyArray<{ readonly digest: string; readonly blob: string }>,
  manifest: Manifest,
  { name, registry }: Subject,
): Promise<void> {
  for (const { digest, blob } of blobs) {
    const said = manifest.layers.find((layer) => layer.digest === digest)!;
    try {
      const found = await lstat(blob);
      if (!found.isFile() || found.size !== said.bytes) throw falseContent(name, registry);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw new EbbError("image_refused", `a layer of ${name} is not in it`);
    }
  }
}

export async function withStaging<T>(
  context: FetchContext,
  subject: Subject,
  work: (run: Run) => Promise<T>,
): Promise<T> {
  const { store, reader, login, signal } = context;
  const folder = join(store.staging, randomHex(8));
  const staging: Staging = {
    folder,
    layout: join(folder, "layout"),
    scratch: join(folder, "scratch"),
    authFile: login === null || subject.registry === null ? null : join(context.logins, `${randomHex(8)}.json`),
  };
  try {
    await mkdir(folder);
    await chmod(folder, 0o711);
    for (const own of [staging.layout, staging.scratch]) {
      await mkdir(own, { mode: 0o700 });
      await chown(own, reader.uid, reader.uid);
    }
    if (login !== null && staging.authFile !== null) await writeLogin(staging.authFile, login, reader.uid);
    return await work({ staging, subject, signal });
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOSPC" || code === "EDQUOT") throw storageFull();
    throw error;
  } finally {
    if (staging.authFile !== null) await rm(staging.authFile, { force: true });
    await store.remove(folder);
  }
}

async function writeLogin(path: string, { registry, username, password }: RegistryLogin, uid: number): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    await file.writeFile(JSON.stringify({ auths: { [registry]: { auth } } }));
    await file.chown(uid, uid);
  } finally {
    await file.close();
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0);
}

/** Not more often than a person reads. */
function paced(tell: (value: number) => void): (value: number) => void {
  let last = -1;
  let at = 0;
  return (value) => {
    const now = performance.now();
    if (value === last || now - at < imageLimits.progressEveryMs) return;
    at = now;
    last = value;
    tell(value);
  };
}
