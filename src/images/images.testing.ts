// For tests: images made from scratch, a registry of Debian's, and one that lies.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { createServer } from "#lib/http.ts";
import { type Header, pack } from "tar-stream";
import { EbbError, type ErrorCode } from "#model/errors.ts";
import { systemClock } from "#model/clock.ts";
import { createAllocator } from "#spawner/allocator.ts";
import type { Spawner } from "#spawner/door.ts";
import { createSpawner } from "#spawner/spawner.ts";
import type { FetchOptions, Images } from "./door.ts";
import { createImages, type ImagesOptions } from "./images.ts";

export interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

export interface Layer extends Blob {
  readonly diffId: string;
  readonly mediaType: string;
}

/** A file of a layer: its header, and what is in it. */
export type Entry = Partial<Header> & { readonly name: string } & { readonly content?: string | Buffer };

const architecture = process.arch === "x64" ? "amd64" : process.arch;

export function blobOf(bytes: Buffer): Blob {
  return { digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}`, bytes };
}

export async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const tar = pack();
  const whole = buffer(tar);
  // The same tar whenever it is made.
  for (const { content, ...header } of entries) tar.entry({ mtime: new Date(0), ...header }, content ?? "");
  tar.finalize();
  return whole;
}

export async function layerOf(
  entries: readonly Entry[] | Buffer,
  compression: "gzip" | "zstd" | "none" = "gzip",
): Promise<Layer> {
  const tar = Buffer.isBuffer(entries) ? entries : await tarOf(entries);
  const packed = compression === "gzip" ? gzipSync(tar) : compression === "zstd" ? zstdCompressSync(tar) : tar;
  const kind = compression === "none" ? "" : `+${compression}`;
  const mediaType = `application/vnd.oci.image.layer.v1.tar${kind}`;
  return { ...blobOf(packed), diffId: blobOf(tar).digest, mediaType };
}

export interface TestImage {
  readonly manifest: Blob;
  readonly config: Blob;
  readonly layers: readonly Layer[];
}

export interface ImageOptions {
  readonly architecture?: string;
  readonly config?: Record<string, unknown>;
  /** Laid over the manifest. */
  readonly manifest?: Record<string, unknown>;
}

export function imageOf(layers: readonly Layer[], options: ImageOptions = {}): TestImage {
  const config = blobOf(
    json({
      os: "linux",
      architecture: options.architecture ?? architecture,
      config: options.config ?? {},
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const manifest = blobOf(
    json({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: {
        mediaType: "application/vnd.oci.image.config.v1+json",
        digest: config.digest,
        size: config.bytes.length,
      },
      layers: layers.map(({ mediaType, digest, bytes }) => ({ mediaType, digest, size: bytes.length })),
      ...options.manifest,
    }),
  );
  return { manifest, config, layers };
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

export function indexOf(images: ReadonlyArray<{ readonly image: TestImage; readonly architecture?: string }>): Blob {
  const manifests = images.map(({ image, architecture: of }) => ({
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: image.manifest.digest,
    size: image.manifest.bytes.length,
    ...(of === undefined ? {} : { platform: { os: "linux", architecture: of } }),
  }));
  return blobOf(json({ schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests }));
}

export function writeLayout(folder: string, image: TestImage): string {
  mkdirSync(join(folder, "blobs", "sha256"), { recursive: true });
  for (const { digest, bytes } of [image.manifest, image.config, ...image.layers])
    writeFileSync(join(folder, "blobs", "sha256", digest.slice(7)), bytes);
  writeFileSync(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(folder, "index.json"), indexOf([{ image }]).bytes);
  return folder;
}

/** The room with what it needs, in folders of its own. */
export class Room {
  readonly folder: string;
  readonly data: string;
  readonly #allocator;
  readonly spawner: Spawner;
  images: Images;

  /** `folder`: of an earlier one; left out: a new one. */
  constructor(folder = mkdtempSync(join(tmpdir(), "ebb-images-"))) {
    this.folder = folder;
    this.data = join(folder, "data");
    mkdirSync(this.data, { recursive: true, mode: 0o711 });
    chmodSync(this.folder, 0o711);
    // The machine's: its number is a user, whose rule must be nobody else's.
    this.#allocator = createAllocator();
    this.spawner = createSpawner({ node: process.execPath, runDir: this.#allocator.runDir, gaveUp: () => {} });
    this.images = this.create();
  }

  create(over: Partial<ImagesOptions> = {}): Images {
    return createImages({
      directory: this.data,
      node: process.execPath,
      spawner: this.spawner,
      allocator: this.#allocator,
      clock: systemClock,
      registries: ["127.0.0.1"],
      resolvers: () => [],
      ...over,
    });
  }

  async start(): Promise<this> {
    await this.spawner.start();
    try {
      await this.images.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
    return this;
  }

  spawnerPid(): number {
    return Number(readFileSync(join(this.#allocator.runDir, "spawner"), "latin1").split(" ")[0]);
  }

  killSpawner(): void {
    process.kill(this.spawnerPid(), "SIGKILL");
  }

  /** Where the folder is somebody else's. */
  async stopKeeping(): Promise<void> {
    await this.images.stop();
    await this.spawner.stop();
  }

  async stop(): Promise<void> {
    await this.stopKeeping();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** In the words of whoever is at fault. */
export function failure(code: ErrorCode, words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EbbError, String(error));
    assert.match(error.message, words);
    assert.equal(error.code, code, error.message);
    return true;
  };
}

export function asked(over: Partial<FetchOptions> = {}): FetchOptions {
  return { project: "default", login: null, progress: () => {}, ...over };
}

export interface Registry {
  /** "127.0.0.1:PORT". */
  readonly host: string;
  stop(): Promise<void>;
}

/** Debian's docker-registry; `htpasswd`: only with such a login. */
export async function startRegistry(folder: string, htpasswd: string | null = null): Promise<Registry> {
  mkdirSync(join(folder, "blobs"), { recursive: true });
  const config = join(folder, "config.yml");
  if (htpasswd !== null) writeFileSync(join(folder, "htpasswd"), htpasswd);
  const auth = htpasswd === null ? {} : { auth: { htpasswd: { realm: "test", path: join(folder, "htpasswd") } } };
  writeFileSync(
    config,
    JSON.stringify({
      version: 0.1,
      log: { level: "info", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(folder, "blobs") } },
      http: { addr: "127.0.0.1:0" },
      ...auth,
    }),
  );
  const child = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: child.stderr })) {
    const host = /listening on (127\.0\.0\.1:[0-9]+)/.exec(line)?.[1];
    if (host === undefined) continue;
    child.stderr.resume();
    return {
      host,
      stop: async () => {
        child.kill();
        await ended;
      },
    };
  }
  throw new Error("docker-registry does not start");
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A registry of one image that may answer some paths in its own way. */
export async function startOwnRegistry(
  image: TestImage | { readonly named: Blob; readonly images: readonly TestImage[] },
  answers: Readonly<Record<string, Answer>> = {},
): Promise<Registry & { readonly asked: string[] }> {
  const [named, images] = "named" in image ? [image.named, image.images] : [image.manifest, [image]];
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, Buffer>([["latest", named.bytes]]);
  for (const one of images) {
    for (const { digest, bytes } of [one.config, ...one.layers]) blobs.set(digest, bytes);
    manifests.set(one.manifest.digest, one.manifest.bytes);
  }
  manifests.set(named.digest, named.bytes);
  const paths: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    paths.push(path);
    const own = Object.keys(answers).find((part) => path.includes(part));
    if (own !== undefined) return answers[own]!(request, response);
    const [, kind, name] = /^\/v2\/[^?]*?\/(manifests|blobs)\/([^/?]+)$/.exec(path) ?? [];
    const found = kind === "manifests" ? manifests.get(name!) : kind === "blobs" ? blobs.get(name!) : undefined;
    if (path === "/v2/") return void response.end("{}");
    if (!found)
      return void response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    const type = kind === "blobs" ? "application/octet-stream" : mediaTypeOf(found);
    return void response.writeHead(200, { "content-type": type, "content-length": found.length }).end(found);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on TCP
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    asked: paths,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function mediaTypeOf(manifest: Buffer): string {
  const value: unknown = JSON.parse(manifest.toString());
  assert.ok(typeof value === "object" && value !== null && "mediaType" in value);
  return String(value.mediaType);
}
