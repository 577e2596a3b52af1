// Reads a job of ebb.yaml: code with a command, or an image with what it runs.

import { jobBounds } from "#model/limits.ts";
import type { CodeJobDeclaration, ImageDeclaration, ImageJobDeclaration, JobDeclaration } from "./door.ts";
import {
  codeReaders,
  commandWords,
  egress,
  isolation,
  readFields,
  secretsApart,
  servingReaders,
  truth,
  wholeNumber,
} from "./fields.ts";
import { laterJobKeys } from "./later.ts";
import type { Place } from "./place.ts";
import { fromReaders, imageReaders, oneImage, secretOfNone } from "./read-containers.ts";

const { memoryMb, cpu, cpuStrict, env, secrets } = servingReaders;
const readers = {
  ...codeReaders,
  ...fromReaders,
  ...imageReaders,
  args: (at: Place) => commandWords(at, "a list of arguments, such as [--all]", true),
  memoryMb,
  cpu,
  cpuStrict,
  timeoutSeconds: (at: Place) => wholeNumber(at, jobBounds.timeoutSeconds),
  retries: (at: Place) => wholeNumber(at, jobBounds.retries),
  parallelism: (at: Place) => wholeNumber(at, jobBounds.parallelism),
  rerunOnInterrupt: truth,
  env,
  secrets,
  egress,
  isolation,
} as const;
const what = "a mapping with source, image or build";

interface Written extends Partial<Omit<CodeJobDeclaration & ImageJobDeclaration, "name" | "from">> {
  readonly image?: ImageDeclaration;
  readonly build?: ImageDeclaration;
}

export function readJob(at: Place, name: string): JobDeclaration {
  const written: Written = {};
  const places = readFields(at, written, { what, readers, later: laterJobKeys });
  if (places !== null) secretsApart(written, places);
  const { image, build, source = ".", runtime, command, pullSecret, writableMb, ...common } = written;
  if (!places?.has("image") && !places?.has("build")) {
    if (places !== null) refuseForCode(at, places);
    return { name, source, command: command ?? [], ...(runtime && { runtime }), ...common };
  }
  oneImage(places);
  secretOfNone(image ?? build, places);
  for (const key of ["source", "runtime"])
    places.get(key)?.keyProblem(`an image brings its own programs; leave ${key} out, or image and build`);
  return {
    name,
    // Where it could not be read, that has been noted.
    from: image ?? build ?? { kind: "registry", reference: "" },
    ...(pullSecret !== undefined && { pullSecret }),
    ...(command !== undefined && { command }),
    ...(writableMb !== undefined && { writableMb }),
    ...common,
  };
}

function refuseForCode(at: Place, places: ReadonlyMap<string, Place>): void {
  if (!places.has("source"))
    at.problemAt(
      "source",
      "expected a folder or file, relative to the app file, or image or build in its place, found nothing",
    );
  if (!places.has("command")) at.problemAt("command", "a job needs a command, such as [node, report.js]");
  for (const key of ["pullSecret", "writableMb"])
    places.get(key)?.keyProblem(`${key} is for a job of an image; leave it out`);
}
