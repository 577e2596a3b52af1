// The program that unpacks layers: a process of its own without a network, locked into the folder that it fills. Its plan comes on
// stdin, and what came of it goes to stdout, each as one JSON value.

import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, openSync, readFileSync, readSync } from "node:fs";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { answer } from "./answer.ts";
import { type Allowance, type LayerBounds, unpackLayer, type Unpacked } from "./layer.ts";
import { LayerRefused, quote } from "./layer-tar.ts";
import { createSystem } from "./system.ts";

export interface UnpackPlan {
  /** Absolute: what the layers' folders are made in. */
  readonly root: string;
  readonly layers: ReadonlyArray<{
    /** Absolute path of the blob. */
    readonly blob: string;
    /** "sha256:…" of the blob, and of the tar in it. */
    readonly digest: string;
    readonly diffId: string;
    /** Name of the folder below the root. */
    readonly folder: string;
  }>;
  readonly left: Allowance;
  readonly bounds: LayerBounds;
}

export type UnpackResult =
  | { readonly done: readonly Unpacked[] }
  /** What it was refused for. */
  | { readonly refused: string }
  /** A blob that is not what its digest says. */
  | { readonly false: string }
  | { readonly full: true };

const pieceBytes = 256 * 1024;

async function main(): Promise<UnpackResult> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
  const plan = JSON.parse(readFileSync(0, "utf8")) as UnpackPlan;
  const system = createSystem();
  process.umask(0);
  const blobs = plan.layers.map((layer) => openSync(layer.blob, "r"));
  system.chroot(plan.root);
  const left = { ...plan.left };
  const done: Unpacked[] = [];
  for (const [index, { folder, digest, diffId }] of plan.layers.entries()) {
    mkdirSync(`/${folder}`, { mode: 0o755 });
    const read = openBlob(blobs[index]!);
    const unpacked = await unpackLayer(read.tar, `/${folder}`, left, plan.bounds, system);
    const found = await read.digests();
    if (found.blob !== digest || found.tar !== diffId) return { false: digest };
    done.push(unpacked);
  }
  return { done };
}

interface OpenBlob {
  readonly tar: AsyncIterable<Uint8Array>;
  /** When all has been read. */
  digests(): Promise<{ readonly blob: string; readonly tar: string }>;
}

function openBlob(fd: number): OpenBlob {
  const tarHash = createHash("sha256");
  const magic = Buffer.alloc(4);
  readSync(fd, magic, 0, 4, 0);
  const source = createReadStream("", { fd, start: 0, highWaterMark: pieceBytes });
  const unpacker = unpackerFor(magic);
  const tarDigest = (): string => `sha256:${tarHash.digest("hex")}`;
  if (unpacker === null) {
    const same = async (): Promise<{ blob: string; tar: string }> => {
      const digest = tarDigest();
      return { blob: digest, tar: digest };
    };
    return { tar: hashed(source, tarHash), digests: same };
  }
  const blobHash = createHash("sha256");
  const ended = new Promise<void>((resolve, reject) => void source.once("end", resolve).once("error", reject));
  // Told by the unpacker, which ends with it.
  ended.catch(() => {});
  source.once("error", (error) => unpacker.destroy(error));
  source.on("data", (piece) => void blobHash.update(piece));
  source.pipe(unpacker);
  return {
    tar: hashed(unpacker, tarHash),
    digests: async () => {
      // What stands behind the compressed stream belongs to the blob too.
      source.unpipe(unpacker);
      source.resume();
      await ended;
      return { blob: `sha256:${blobHash.digest("hex")}`, tar: tarDigest() };
    },
  };
}

async function* hashed(
  stream: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Uint8Array> {
  for await (const piece of stream) {
    hash.update(piece);
    yield piece;
  }
}

function unpackerFor(magic: Buffer): ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress> | null {
  if (magic[0] === 0x1f && magic[1] === 0x8b) return createGunzip({ chunkSize: pieceBytes });
  if (magic.readUInt32LE(0) === 0xfd2fb528) return createZstdDecompress({ chunkSize: pieceBytes });
  return null;
}

/** Of zlib and zstd: the blob is damaged, or ends too early. */
function isDamage(code: string): boolean {
  return (
    code.startsWith("Z_") ||
    code.startsWith("ZSTD_") ||
    code.startsWith("ERR_ZSTD") ||
    code === "ERR_STREAM_PREMATURE_CLOSE"
  );
}

/** What of an error is the layer's own fault; null: nothing. */
function refusalOf(error: unknown): UnpackResult | null {
  if (error instanceof LayerRefused) return { refused: error.message };
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (isDamage(code)) return { refused: "a layer cannot be decompressed: it is damaged, or cut short" };
  // Names that this file system does not take.
  if (code === "ENAMETOOLONG" || code === "EINVAL" || code === "ELOOP")
    return { refused: `a layer has a name that cannot be made here (${quote(String(error))})` };
  return null;
}

await answer(main, refusalOf);
