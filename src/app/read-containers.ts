// Reads the containers of ebb.yaml: as functions are read, every problem at once.

import { containerBounds, containerDefaults, deployLimits } from "#model/limits.ts";
import { refuseEnvName, refuseWorkloadName } from "#model/names.ts";
import type { HttpProbe, Probe, Protocol } from "#model/workload.ts";
import type { BuildDeclaration, ContainerDeclaration, ImageDeclaration } from "./door.ts";
import {
  canonicalPath,
  commandWords,
  environment,
  refusePath,
  refuseScaling,
  relativePath,
  servingReaders,
  unknownKey,
  wholeNumber,
  word,
} from "./fields.ts";
import { brief, type Place } from "./place.ts";

/** What is said of an image, whatever runs it. */
export const imageReaders = {
  pullSecret: secretName,
  command: (at: Place) => commandWords(at),
  args: (at: Place) => commandWords(at, "a list of arguments, such as [--verbose]", true),
  writableMb: (at: Place) => wholeNumber(at, containerBounds.writableMb),
} as const;

const readers = {
  ...imageReaders,
  port: (at: Place) => wholeNumber(at, containerBounds.port),
  protocol: (at: Place) => word(at, ["http1", "h2c"] satisfies Protocol[]),
  probe,
  liveness: (at: Place) => httpProbe(at, "{ http: /path }"),
  ...servingReaders,
} as const;

/** Where it is to come from. */
export const fromReaders = { image, build } as const;

const known = [...Object.keys(fromReaders), ...Object.keys(readers)];
const later: Readonly<Record<string, string>> = { triggers: "triggers come with a later version of ebb" };

export function readContainers(
  at: Place,
  project: string,
  others: ReadonlyArray<{ readonly name: string }>,
): ContainerDeclaration[] {
  const entries = at.entries("a mapping of names to containers");
  if (entries === undefined) return [];
  if (entries.length === 0) at.problem("expected at least one container, found none");
  if (entries.length + others.length > deployLimits.functionsPerApp) {
    at.problem(`expected at most ${deployLimits.functionsPerApp} functions, containers and jobs`);
    return [];
  }
  const taken = new Set(others.map(({ name }) => name));
  return entries.flatMap(({ key, value }) => {
    const refusal = refuseWorkloadName(key, project);
    if (refusal !== null) value.keyProblem(`${JSON.stringify(brief(key))} cannot name a container: ${refusal}`);
    if (taken.has(key)) value.keyProblem(`"${brief(key)}" is a function or a job as well; a name is one workload's`);
    return readContainer(value, key) ?? [];
  });
}

/** undefined: it does not say where its image is. */
function readContainer(at: Place, name: string): ContainerDeclaration | undefined {
  const entries = at.entries("a mapping with image");
  if (entries === undefined) return undefined;
  const places = new Map<string, Place>();
  const settings: Partial<Omit<ContainerDeclaration, "name" | "from">> = {};
  let from: ImageDeclaration | undefined;
  for (const { key, value } of entries) {
    places.set(key, value);
    if (key === "image" || key === "build") from = fromReaders[key](value);
    else if (isField(key)) {
      const read = readers[key](value);
      if (read !== undefined) Object.assign(settings, { [key]: read });
    } else if (Object.hasOwn(later, key)) value.keyProblem(later[key]!);
    else unknownKey(value, key, known);
  }
  oneImage(places);
  if (!places.has("image") && !places.has("build"))
    at.problemAt(
      "image",
      "expected a name (registry.example.com/web:1), an archive (./web.tar) or build, found nothing",
    );
  secretOfNone(from, places);
  crossCheck(settings, places);
  return from && { name, from, ...settings };
}

export function oneImage(places: ReadonlyMap<string, Place>): void {
  if (places.has("image")) places.get("build")?.keyProblem("an image is named or built; leave one of them out");
}

/** A secret opens the registry of the image's own name. */
export function secretOfNone(from: ImageDeclaration | undefined, places: ReadonlyMap<string, Place>): void {
  if (from !== undefined && from.kind !== "registry")
    places
      .get("pullSecret")
      ?.keyProblem("it opens the registry of an image's name, and this image has none; leave it out");
}

/** What is right by itself and wrong together. */
function crossCheck(
  { min, max, secrets, env, ...declared }: Partial<ContainerDeclaration>,
  places: ReadonlyMap<string, Place>,
): void {
  const ceiling = max ?? containerDefaults.max;
  if (min !== undefined && min > ceiling)
    places.get("min")?.problem(`min ${min} is above max ${ceiling}${max === undefined ? ", the default" : ""}`);
  refuseScaling(declared, containerDefaults.concurrency, places);
  const { protocol, probe, liveness } = declared;
  const byHttp1 = "asks by HTTP/1.1, which a container with protocol: h2c does not speak";
  if (protocol === "h2c" && probe !== undefined && "http" in probe) places.get("probe")!.problem(`${byHttp1}; say tcp`);
  if (protocol === "h2c" && liveness !== undefined) places.get("liveness")!.problem(`${byHttp1}; leave it out`);
  for (const secret of secrets ?? [])
    if (env && Object.hasOwn(env, secret))
      places.get("secrets")?.problem(`"${secret}" is in env too; one name has one value`);
}

function isField(key: string): key is keyof typeof readers {
  return Object.hasOwn(readers, key);
}

/** A name of a registry's never begins with a dot; a path that is meant as one always does, as in a shell. */
function image(at: Place): ImageDeclaration | undefined {
  const what = "the name of an image, such as registry.example.com/web:1, or ./web.tar";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  if (text.startsWith("./") || text.startsWith("../")) {
    const refusal = refusePath(text, deployLimits.pathBytes);
    if (refusal !== null) return at.problem(`expected ${what}, found ${at.found()}: ${refusal}`);
    return { kind: "path", path: canonicalPath(text) };
  }
  if (text.length > containerBounds.imageChars || !/^[!-~]+$/.test(text)) return at.expected(what);
  return { kind: "registry", reference: text };
}

/** A folder, or as Docker's compose has it. */
function build(at: Place): ImageDeclaration | undefined {
  const folder = (place: Place): string | undefined => relativePath(place, deployLimits.pathBytes);
  if (at.isNothing || at.isScalar) {
    const path = folder(at);
    return path === undefined ? undefined : { kind: "build", path };
  }
  const entries = at.entries("a folder, or { context: ./folder, args: { NAME: value }, target: stage }");
  if (entries === undefined) return undefined;
  let path: string | undefined;
  const asked: Partial<Pick<BuildDeclaration, "args" | "target">> = {};
  for (const { key, value } of entries) {
    if (key === "context") path = folder(value);
    else if (key === "args") Object.assign(asked, { args: environment(value, refuseArgument) });
    else if (key === "target") Object.assign(asked, { target: stageName(value) });
    else unknownKey(value, key, ["context", "args", "target"]);
  }
  if (!entries.some(({ key }) => key === "context"))
    return at.problem("expected { context: ./folder }, found no context");
  return path === undefined ? undefined : { kind: "build", path, ...asked };
}

/** As a Dockerfile's ARG: PORT is one like any other. */
function refuseArgument(name: string): string | null {
  return /^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)
    ? null
    : "not letters, digits and underscores, or it starts with a digit";
}

function stageName(at: Place): string | undefined {
  const what = "the name of a stage of the Dockerfile";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  return /^[A-Za-z][A-Za-z0-9_.-]{0,127}$/.test(text) ? text : at.expected(what);
}

function secretName(at: Place): string | undefined {
  const what = "the name of a secret";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  const refusal = refuseEnvName(text);
  if (refusal !== null) return at.problem(`"${brief(text)}" cannot name a secret: ${refusal}`);
  return text;
}

/** `{ http: /healthz }`, or the word tcp. */
function probe(at: Place): Probe | undefined {
  const what = "{ http: /path } or tcp";
  if (at.isNothing) return at.expected(what);
  if (at.isScalar) {
    if (at.writtenText(what) === "tcp") return { tcp: true };
    return at.expected(what);
  }
  return httpProbe(at, what);
}

function httpProbe(at: Place, what: string): HttpProbe | undefined {
  const entries = at.entries(what);
  if (entries === undefined) return undefined;
  let path: string | undefined;
  for (const { key, value } of entries) {
    if (key === "http") path = probePath(value);
    else unknownKey(value, key, ["http"]);
  }
  if (!entries.some(({ key }) => key === "http")) return at.problem(`expected ${what}, found no http`);
  return path === undefined ? undefined : { http: path };
}

function probePath(at: Place): string | undefined {
  const what = "a path that begins with /";
  if (at.isNothing) return at.expected(what);
  const text = at.writtenText(what);
  if (text === undefined) return undefined;
  if (text.length <= containerBounds.probePathChars && /^\/[!-~]*$/.test(text) && !text.includes("#")) return text;
  at.expected(what);
  return undefined;
}
