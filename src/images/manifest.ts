// What manifests, indexes and configurations of images say, checked before anything else of the image is touched. Pure.

import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { ImageConfig } from "./door.ts";
import { isDigest } from "./reference.ts";

export interface Descriptor {
  readonly digest: string;
  readonly bytes: number;
}

export interface Platform {
  readonly os: string;
  /** As Go names it: "amd64", "arm64". */
  readonly architecture: string;
}

export interface Manifest {
  readonly kind: "image";
  readonly config: Descriptor;
  /** Lowest first. */
  readonly layers: readonly Descriptor[];
}

export interface Index {
  readonly kind: "index";
  readonly manifests: ReadonlyArray<Descriptor & { readonly platform: Platform | null; readonly index: boolean }>;
}

export interface Configuration {
  readonly platform: Platform;
  /** "sha256:…" of each layer's tar. */
  readonly diffIds: readonly string[];
  readonly config: ImageConfig;
}

const indexTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
]);
const manifestTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
]);
const configTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
]);
const layerTypes: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.layer.v1.tar",
  "application/vnd.oci.image.layer.v1.tar+gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd",
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
]);

function refuse(words: string): EbbError {
  return new EbbError("image_refused", words);
}

export function platformOf(nodeArchitecture: string): Platform {
  return { os: "linux", architecture: nodeArchitecture === "x64" ? "amd64" : nodeArchitecture };
}

export function sayPlatform({ os, architecture }: Platform): string {
  return `${os}/${architecture}`;
}

export function parseManifest(text: string): Manifest | Index {
  const value = objectOf(parseJson(text, "manifest"), "the image's manifest");
  const type = value["mediaType"];
  if (value["schemaVersion"] === 1)
    throw refuse("the image has a manifest of 2015's form (schema 1); push it again with a current docker or podman");
  if (value["schemaVersion"] !== 2) throw refuse("the image's manifest has no schemaVersion 2");
  // A type that says one thing and content that says another: two readers would see two images.
  if ((Array.isArray(value["manifests"]) && "layers" in value) || (typeof type === "string" && !fits(type, value)))
    throw refuse("the image's manifest is not of the kind that it says it is");
  return Array.isArray(value["manifests"]) ? indexOf(value["manifests"]) : manifestOf(value);
}

function fits(type: string, value: Record<string, unknown>): boolean {
  return Array.isArray(value["manifests"]) ? indexTypes.has(type) : manifestTypes.has(type);
}

function indexOf(listed: readonly unknown[]): Index {
  if (listed.length > 1_000) throw refuse("the image's index has more than 1,000 entries");
  const manifests = listed.map((one) => {
    const entry = objectOf(one, "an entry of the image's index");
    const platform = entry["platform"];
    const said = typeof platform === "object" && platform !== null ? objectOf(platform, "a platform") : null;
    return {
      ...descriptorOf(entry, "an entry of the image's index"),
      platform: said && { os: textOf(said["os"]), architecture: textOf(said["architecture"]) },
      index: indexTypes.has(textOf(entry["mediaType"])),
    };
  });
  return { kind: "index", manifests };
}

function manifestOf(value: Record<string, unknown>): Manifest {
  const said = objectOf(value["config"], "the manifest's config");
  if (!configTypes.has(textOf(said["mediaType"])))
    throw refuse(`what is there is no image but an artifact (its configuration is ${quoted(said["mediaType"])})`);
  const config = descriptorOf(said, "the manifest's config");
  if (config.bytes > imageLimits.configBytes) throw refuse("the image's configuration is larger than 4 MiB");
  const listed = value["layers"];
  if (!Array.isArray(listed) || listed.length === 0) throw refuse("the image has no layers");
  if (listed.length > imageLimits.layers)
    throw refuse(`the image has ${listed.length} layers; at most ${imageLimits.layers} are taken`);
  const layers = listed.map((one) => {
    const layer = objectOf(one, "a layer");
    // Foreign layers: somebody else's address, to be asked from here.
    if (layer["urls"] !== undefined || !layerTypes.has(textOf(layer["mediaType"])))
      throw refuse(`a layer of the image is of a kind that is not taken (${quoted(layer["mediaType"])})`);
    return descriptorOf(layer, "a layer");
  });
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0);
  if (bytes > imageLimits.compressedBytes)
    throw refuse(`the image has ${gigabytes(bytes)} GB; at most ${gigabytes(imageLimits.compressedBytes)} are taken`);
  return { kind: "image", config, layers };
}

/** The entry of an index that runs here; EbbError names what there is instead. */
export function choose(index: Index, here: Platform): Index["manifests"][number] {
  const { manifests } = index;
  const found = manifests.find(
    ({ platform }) => platform?.os === here.os && platform.architecture === here.architecture,
  );
  // A layout's index.json need not say it where there is but one.
  const only = manifests.length === 1 && manifests[0]!.platform === null ? manifests[0] : undefined;
  if (found ?? only) return (found ?? only)!;
  const there = [...new Set(manifests.flatMap(({ platform }) => (platform ? [sayPlatform(platform)] : [])))]
    .filter((one) => one !== "unknown/unknown")
    .slice(0, 20);
  if (there.length === 0) throw refuse("the image's index names no image, or several without a platform; name one");
  throw wrongPlatform(there.join(", "), here);
}

export function parseConfiguration(text: string, here: Platform): Configuration {
  const value = objectOf(parseJson(text, "configuration"), "the image's configuration");
  const platform = { os: textOf(value["os"]), architecture: textOf(value["architecture"]) };
  if (platform.os !== here.os || platform.architecture !== here.architecture)
    throw wrongPlatform(sayPlatform(platform), here);
  const diffIds = objectOf(value["rootfs"], "the configuration's rootfs")["diff_ids"];
  if (!Array.isArray(diffIds) || !diffIds.every(isDigest)) throw refuse("the image's configuration names no layers");
  const said = value["config"] === undefined || value["config"] === null ? {} : objectOf(value["config"], "its config");
  return { platform, diffIds, config: runConfigOf(said) };
}

/**
 * Whether a configuration asks something of whoever builds on it. By its text: Go takes names in any case, and of one that stands twice it
 * merges both.
 */
export function saysOnBuild(text: string): boolean {
  const plain = text.replace(/\\u00[4-7][0-9a-f]/gi, (escaped) => {
    const character = String.fromCharCode(Number.parseInt(escaped.slice(2), 16));
    return /[A-Za-z]/.test(character) ? character : escaped;
  });
  return /"onbuild"\s*:(?!\s*(?:null|\[\s*\]))/i.test(plain);
}

function wrongPlatform(there: string, here: Platform): EbbError {
  const [wanted] = [sayPlatform(here)];
  return refuse(`the image is for ${there}, and this machine is ${wanted}; build or push it for ${wanted}`);
}

function runConfigOf(said: Record<string, unknown>): ImageConfig {
  const directory = cleanText(said["WorkingDir"], "WorkingDir") || "/";
  const parts = directory.split("/").filter((part) => part !== "" && part !== ".");
  if (!directory.startsWith("/") || parts.includes("..") || parts[0] === "proc" || !fitsPath(directory, parts))
    throw refuse(`the image's working directory ${quoted(directory)} is not an absolute path of its own`);
  const signal = textOf(said["StopSignal"]);
  if (signal !== "" && !/^(?:SIG)?[A-Z0-9+-]{1,12}$/.test(signal))
    throw refuse(`the image's stop signal ${quoted(signal)} is none`);
  return {
    entrypoint: textsOf(said["Entrypoint"], "Entrypoint"),
    command: textsOf(said["Cmd"], "Cmd"),
    env: environmentOf(textsOf(said["Env"], "Env")),
    workingDirectory: `/${parts.join("/")}`,
    user: cleanText(said["User"], "User"),
    port: portOf(said["ExposedPorts"]),
    stopSignal: signal === "" ? null : signal,
  };
}

/** It is made where it is missing, below a folder of the machine's. */
function fitsPath(path: string, parts: readonly string[]): boolean {
  return (
    Buffer.byteLength(path) <= imageLimits.workingDirectoryBytes &&
    parts.every((part) => Buffer.byteLength(part) <= 255)
  );
}

function environmentOf(pairs: readonly string[]): Record<string, string> {
  const env: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals > 0) env[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return { ...env };
}

/** As docker lists them: the lowest of "80/tcp", "53/udp", "8000-8010/tcp". */
function portOf(exposed: unknown): number | null {
  if (typeof exposed !== "object" || exposed === null) return null;
  const ports = Object.keys(exposed).flatMap((key) => {
    const match = /^([0-9]{1,5})(?:-[0-9]{1,5})?(?:\/tcp)?$/.exec(key);
    const port = Number(match?.[1]);
    return match && port >= 1 && port <= 65_535 ? [port] : [];
  });
  return ports.length === 0 ? null : Math.min(...ports);
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuse(`the image's ${what} is not JSON`);
  }
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refuse(`${what} is missing or malformed`);
  return { ...value };
}

function descriptorOf(value: Record<string, unknown>, what: string): Descriptor {
  const { digest, size } = value;
  if (!isDigest(digest)) throw refuse(`the digest of ${what} is not sha256`);
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
    throw refuse(`the size of ${what} is no number`);
  return { digest, bytes: size };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function cleanText(value: unknown, what: string): string {
  const text = textOf(value);
  if (text.includes("\0") || text.length > 4_096) throw refuse(`the image's ${what} is malformed`);
  return text;
}

function textsOf(value: unknown, what: string): string[] {
  if (value === undefined || value === null) return [];
  if (
    !Array.isArray(value) ||
    value.length > 4_096 ||
    !value.every((one) => typeof one === "string" && !one.includes("\0"))
  )
    throw refuse(`the image's ${what} is not a list of texts`);
  return value;
}

function quoted(value: unknown): string {
  return JSON.stringify(textOf(value).slice(0, 120));
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
