// Builds an image of a folder with a Dockerfile or Containerfile by buildah, whose storage lives and goes with the build. What the file
// stands on comes as every image does, bounded and checked; buildah itself has no network, and no way to run anything: that is done in
// sandboxes, in staged-build.ts.

import { lstat, open, realpath, writeFile } from "node:fs/promises";
import { constants, existsSync } from "node:fs";
import { basename, join, relative, sep } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { BuildSource, Image } from "./door.ts";
import { buildArguments, readDockerfile, refuseIn } from "./dockerfile.ts";
import { storageFull } from "./failures.ts";
import { digestNow, keep, pullWhole, withStaging, type FetchContext } from "./fetch.ts";
import { digestOf, readLayout } from "./layout.ts";
import { nameOf, parseReference } from "./reference.ts";
import type { Run } from "./reader.ts";
import { RoomGuard } from "./room-guard.ts";
import { buildStages } from "./staged-build.ts";
import { hasRuns, writtenWhole } from "./steps.ts";

const builtName = "localhost/built";
const fileBytesMax = 1024 * 1024;
/** Whatever asks to be run fails, also what a base says by ONBUILD. */
const fixed = [
  "--isolation=oci",
  "--runtime=/bin/false",
  "--network=none",
  "--pull-never",
  "--layers=false",
  "--format=oci",
];

export async function fetchBuild(source: BuildSource, options: FetchContext): Promise<Image> {
  const { context, file, args, target, useCache = true } = source;
  const subject = { name: basename(context), registry: null };
  return withStaging(options, subject, async (run) => {
    const { progress, platform, clock, store, steps, spawner, project } = options;
    const chosen = await chooseFile(context, file);
    const dockerfile = readDockerfile(await readFile(context, chosen), chosen, source);
    const { bases } = dockerfile;
    const refuse = refuseIn(chosen);
    const { runStep } = options;
    const runs = hasRuns(dockerfile);
    if (runs && runStep === null)
      throw new EbbError("image_refused", `${chosen} has a RUN, and nothing is run here: ebb runs without isolation`);
    const digests: string[] = [];
    for (const base of bases) digests.push(await digestNow(base, options));
    const given = Object.entries(args ?? {}).toSorted(([one], [other]) => (one < other ? -1 : 1));
    const asked = args === undefined && target === undefined ? [] : [given, target];
    const builtFrom = await sourceDigest(context, [chosen, bases, digests, ...asked], run, spawner);
    // buildah writes the time into what it makes: the same folder would be another image each time.
    const known = useCache ? store.builtFrom(builtFrom, project) : null;
    if (known) return store.addAgain(known, subject.name, project);
    const guard = new RoomGuard(run, clock, steps.room);
    const guarded = { ...run, signal: guard.signal };
    try {
      const buildah = await enclosed(guarded, options);
      const layouts = new Map<string, string>();
      for (const [index, base] of bases.entries()) {
        const folder = join(run.staging.folder, `base-${index}`);
        layouts.set(base, folder);
        await pullWhole(base, digests[index]!, folder, options);
        // Under the name by which buildah looks for it.
        const name = `containers-storage:${nameOf(parseReference(base))}`;
        await buildah(["skopeo", "--insecure-policy", "copy", "--quiet", `oci:${folder}:image`, name]);
      }
      progress(`building ${subject.name}`);
      let files = 0;
      const build = async (text: string, name: string, given: ReadonlyMap<string, string>): Promise<void> => {
        const path = join(run.staging.folder, `Dockerfile-${++files}`);
        await writeFile(path, text);
        const values = buildArguments(new Map([...given, ...dockerfile.args]), chosen);
        await buildah(["buildah", "build", ...fixed, `--file=${path}`, ...values, `--tag=${name}`, "--", context]);
      };
      if (runs) {
        const staged = {
          file: dockerfile,
          refuse,
          run: guarded,
          options,
          runStep: runStep!,
          cache: steps.of(project, useCache),
          bases: layouts,
          buildah,
          build,
        };
        return await buildStages(staged, (found, here) => keep(found, here, guarded, options, builtFrom));
      }
      await build(writtenWhole(dockerfile), builtName, new Map());
      const to = `oci:${run.staging.layout}:image`;
      await buildah(["buildah", "push", "--quiet", "--disable-compression", builtName, to]);
    } finally {
      guard.end();
    }
    return keep(await readLayout(run.staging.layout, platform, subject.name), new Map(), run, options, builtFrom);
  });
}

/** $1 a folder: names, kinds, modes, links and contents, whatever order the disk has them in. */
const digestFolder = `cd "$1" && {
  find . -printf "%P\\t%y\\t%m\\t%l\\0" | sort -z
  find . -type f -print0 | sort -z | xargs -0 -r sha256sum
} | sha256sum`;

/** Of all that a build is made from. In a process of its own: it reads everything. */
async function sourceDigest(
  context: string,
  beside: unknown,
  { signal }: Run,
  spawner: FetchContext["spawner"],
): Promise<string> {
  const argv = ["/bin/sh", "-c", digestFolder, "ebb", context];
  const { code, stdout, stderr } = await spawner.exec(argv, { timeoutMs: imageLimits.buildMs, signal });
  if (code !== 0) throw new EbbError("internal", `a folder cannot be read: ${stderr.slice(0, 300)}`);
  return digestOf(JSON.stringify([stdout.slice(0, 64), beside]));
}

/** Runs a program with namespaces and a storage of its own. EbbError image_refused with its last words where it fails. */
async function enclosed(
  { staging, subject, signal }: Run,
  { spawner }: FetchContext,
): Promise<(program: readonly string[]) => Promise<void>> {
  const conf = join(staging.folder, "storage.conf");
  const place = (name: string): string => JSON.stringify(join(staging.folder, name));
  const registries = join(staging.folder, "registries.conf");
  // As ebb completes names, whatever this machine has for its people.
  await writeFile(registries, 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n');
  await writeFile(conf, `[storage]\ndriver = "overlay"\ngraphroot = ${place("graph")}\nrunroot = ${place("run")}\n`);
  const { scratch } = staging;
  const argv = [
    // Its mounts, and whatever it started, go with it.
    "unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--",
    "prlimit", `--fsize=${imageLimits.compressedBytes}`, "--core=0", "--",
    "nice", "-n", "5",
    "env", `HOME=${scratch}`, `TMPDIR=${scratch}`, `XDG_RUNTIME_DIR=${scratch}`, `CONTAINERS_STORAGE_CONF=${conf}`, `CONTAINERS_REGISTRIES_CONF=${registries}`,
  ]; // prettier-ignore
  return async (program) => {
    const timeoutMs = imageLimits.buildMs;
    signal.throwIfAborted();
    const ran = spawner.exec([...argv, ...program], { timeoutMs, signal }).catch((error: unknown) => {
      signal.throwIfAborted();
      if (!(error instanceof Error) || !/longer than/.test(error.message)) throw error;
      const words = `cannot be built: it took longer than ${timeoutMs / 60_000} minutes, or said more than 1 MiB`;
      throw new EbbError("image_refused", `${subject.name} ${words}`);
    });
    const { code, stderr } = await ran;
    if (code === 127) throw new EbbError("internal", `${program[0]} is missing: install it (ebb doctor says how)`);
    if (code === 0) return;
    if (/no space left on device/i.test(stderr)) throw storageFull();
    throw new EbbError("image_refused", `${subject.name} cannot be built: ${wordsOf(stderr, staging.folder)}`);
  };
}

/** buildah's last line: where, and why. */
function wordsOf(stderr: string, folder: string): string {
  const lines = stderr.trim().split("\n");
  const last = lines.findLast((line) => line.startsWith("Error: ")) ?? lines.at(-1) ?? "";
  return (
    last
      .replace(/^Error: /, "")
      .replaceAll(folder, "…")
      .replace(/reading "[^"]*": error during bulk transfer for copier\.request\{.*\}: /, "")
      // Its reader has ended before it was asked: it had said why already, and to nobody.
      .replace(/error encoding request for copier subprocess: .*$/, "it leads out of the folder, or to nothing")
      .replace(/checking on sources under "[^"]*"/, "looking for its sources")
      // oxlint-disable-next-line no-control-regex -- they would reach a terminal
      .replace(/[\u0000-\u001f\u007f]/g, " ")
      .slice(0, 400)
  );
}

async function chooseFile(context: string, file: string | null): Promise<string> {
  for (const ignoring of [".dockerignore", ".containerignore"])
    if (existsSync(join(context, ignoring)) && !(await lstat(join(context, ignoring))).isFile())
      throw new EbbError("image_refused", `${ignoring} is no file`);
  if (file !== null) return file;
  const found = ["Containerfile", "Dockerfile"].find((one) => existsSync(join(context, one)));
  if (found === undefined)
    throw new EbbError("image_refused", `${basename(context)} has no Containerfile and no Dockerfile`);
  return found;
}

/** A regular file of the context, whatever links are above it. */
async function readFile(context: string, file: string): Promise<string> {
  try {
    const real = await realpath(join(context, file));
    const within = relative(await realpath(context), real);
    if (within === "" || within === ".." || within.startsWith(`..${sep}`))
      throw new EbbError("image_refused", `${file} leads out of its folder`);
    const handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = await handle.stat();
      if (!stat.isFile() || stat.size > fileBytesMax)
        throw new EbbError("image_refused", `${file} is no file, or larger than 1 MiB`);
      return await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw new EbbError("image_refused", `there is no ${file} in ${basename(context)}`);
    throw error;
  }
}
