// Builds an image whose Dockerfile runs commands. What it says is buildah's to do, on what is there so far; what it runs is run in a
// sandbox of that, and what it changed becomes the next layer by the same rules as a layer that came from anywhere.

import { link, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { BuildStep, BuildStepEnd } from "#sandbox/door.ts";
import { RunOutput, Told } from "./build-output.ts";
import { keyOfRun, keyOfTimes } from "./cached-steps.ts";
import type { Image } from "./door.ts";
import type { Dockerfile, Refuse } from "./dockerfile.ts";
import { storageFull } from "./failures.ts";
import type { FetchContext } from "./fetch.ts";
import { blobPath, digestOf, readBlob, readLayout, writeLayout, type Found } from "./layout.ts";
import { dateLayer, packerOf } from "./layer-programs.ts";
import { parseConfiguration } from "./manifest.ts";
import type { Run } from "./reader.ts";
import { nameOf, parseReference } from "./reference.ts";
import { defaultShell, type RunInstruction } from "./run-instruction.ts";
import { argumentLabel, neededStages, planStage, writtenStep, type StagePlan, type Step } from "./steps.ts";
import type { ProjectSteps } from "./step-cache.ts";
import type { LayerRecord } from "./store.ts";
import { unpackLayers } from "./unpack.ts";
import type { PackResult } from "./unpack/pack.ts";

/** Runs one command of a build in a sandbox (fleet.build). */
export type RunStep = (step: BuildStep) => Promise<BuildStepEnd>;

export interface StagedBuild {
  readonly file: Dockerfile;
  readonly refuse: Refuse;
  readonly run: Run;
  readonly options: FetchContext;
  readonly runStep: RunStep;
  /** What this project keeps of its builds. */
  readonly cache: ProjectSteps;
  /** Layouts of the images that it stands on, by their names in the file. */
  readonly bases: ReadonlyMap<string, string>;
  /** Runs a program as buildah is run. */
  readonly buildah: (program: readonly string[]) => Promise<void>;
  /** Makes an image of this name of a Dockerfile's text. */
  readonly build: (text: string, name: string, buildArguments: ReadonlyMap<string, string>) => Promise<void>;
}

/** An image that is being made: at least one of both. */
interface Made {
  /** Its name in buildah's storage. */
  stored: string | null;
  held: Held | null;
  /** Variables that have a value, and count for this stage alone. */
  readonly values: Map<string, string>;
}

/** Each of its layers is here as a tar, or unpacked. */
interface Held {
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly diffIds: readonly string[];
}

const saidChars = 160;

/** The image of the last stage, in the run's layout, and its layers that are not in there because they are here. */
export async function buildStages(
  build: StagedBuild,
  work: (found: Found, here: ReadonlyMap<string, LayerRecord>) => Promise<Image>,
): Promise<Image> {
  const stages = new Stages(build);
  try {
    const found = await stages.whole();
    return await work(found, stages.here);
  } finally {
    stages.end();
  }
}

class Stages {
  /** Layers that are unpacked and in their place, by what is in them. */
  readonly here = new Map<string, LayerRecord>();
  readonly #build: StagedBuild;
  readonly #made = new Map<number, Made>();
  readonly #shells = new Map<number, readonly string[]>();
  readonly #unpins: Array<() => void> = [];
  /** Tars of layers, by what is in them. */
  readonly #tars = new Map<string, string>();
  /** Layers that buildah has. */
  readonly #stored = new Set<string>();
  /** Of buildah's layers: the same with the times that count. */
  readonly #dated = new Map<string, string>();
  readonly #told: Told;
  readonly #endMs: number;
  #count = 0;

  constructor(build: StagedBuild) {
    this.#build = build;
    this.#told = new Told((line) => build.options.progress(line, true));
    this.#endMs = this.#nowMs() + build.options.buildMs;
  }

  end(): void {
    for (const unpin of this.#unpins) unpin();
  }

  async whole(): Promise<Found> {
    const { file, refuse, run, options } = this.#build;
    const needed = neededStages(file);
    // What is wrong with any of them is said before the first is made.
    const plans = needed.map((index) => {
      const { from } = file.stages[index]!;
      const shell = typeof from === "number" ? this.#shells.get(from)! : defaultShell;
      const plan = planStage(file, index, shell, refuse);
      this.#shells.set(index, plan.shell);
      return { index, plan };
    });
    for (const { index, plan } of plans) this.#made.set(index, await this.#stage(plan));
    const last = this.#made.get(file.stages.length - 1)!;
    const { layout } = run.staging;
    if (last.stored === null) {
      await this.#place(last.held!.diffIds);
      await this.#write(last.held!, layout);
    } else {
      const { diffIds } = await this.#pushed(last.stored, layout);
      // The others are in the layout.
      await this.#place(diffIds.filter((diffId) => this.#tars.has(diffId)));
    }
    return readLayout(layout, options.platform, run.subject.name);
  }

  async #stage({ from, steps, line }: StagePlan): Promise<Made> {
    const made = await this.#begun(from);
    for (const step of steps) {
      this.#build.run.signal.throwIfAborted();
      if (step.kind === "said") await this.#say(made, step);
      else await this.#run(made, step);
    }
    if (made.stored === null && made.held === null) throw this.#build.refuse(line, "the stage has nothing in it");
    return made;
  }

  async #begun(from: string | number): Promise<Made> {
    const values = new Map<string, string>();
    if (typeof from === "number") {
      const { stored, held } = this.#made.get(from)!;
      return { stored, held, values };
    }
    if (from === "scratch") return { stored: null, held: null, values };
    const { options, run, bases } = this.#build;
    const layout = bases.get(from)!;
    const { manifest } = await readLayout(layout, options.platform, from);
    const text = await readBlob(layout, manifest.config.digest, imageLimits.configBytes, from);
    const { diffIds } = parseConfiguration(text, options.platform);
    this.#unpins.push(options.store.pin(diffIds));
    for (const diffId of diffIds) {
      const layer = options.store.layer(diffId, options.project);
      if (layer === null)
        throw new EbbError("internal", `a layer of ${from} has gone while ${run.subject.name} is built`);
      this.here.set(diffId, { ...layer, digest: diffId });
      this.#stored.add(diffId);
    }
    return { stored: nameOf(parseReference(from)), held: { configuration: objectOf(text), diffIds }, values };
  }

  async #say(made: Made, step: Extract<Step, { kind: "said" }>): Promise<void> {
    const { file, build } = this.#build;
    for (const { line, name, rest } of step.instructions) this.#tell(line, `${name} ${rest}`);
    const image = made.stored === null && made.held === null ? "scratch" : await this.#toBuildah(made);
    // Of other stages everything that is copied from has to be there.
    for (const { froms } of step.instructions)
      for (const { from } of froms) if (typeof from === "number") await this.#toBuildah(this.#made.get(from)!);
    const text = writtenStep(file, step, image, (stage) => this.#made.get(stage)!.stored!);
    const given = new Map([...made.values].filter(([name]) => step.before.includes(name)));
    made.stored = this.#name();
    made.held = null;
    await build(text, made.stored, given);
    if (!step.runs) return;
    const held = await this.#dating(made.stored);
    const { values, configuration } = withoutArguments(held.configuration);
    made.held = { ...held, configuration };
    made.stored = null;
    for (const { name, given: isGiven } of step.asked) {
      const value = values.get(name) ?? "";
      if (value !== "" || isGiven) made.values.set(name, value);
    }
  }

  async #run(made: Made, step: RunInstruction): Promise<void> {
    const { options, run, refuse, runStep, cache } = this.#build;
    const { signal, subject } = run;
    const leftMs = this.#endMs - this.#nowMs();
    if (leftMs <= 0) throw refuse(step.line, `the build took longer than ${options.buildMs / 60_000} minutes`);
    // What buildah alone has is followed by no command.
    const { held } = made;
    if (held === null) throw refuse(step.line, "RUN has nothing to run: the image is empty");
    if (held.diffIds.length >= imageLimits.layers)
      throw refuse(step.line, `the image has more than ${imageLimits.layers} layers here`);
    const text = JSON.stringify(held.configuration);
    const { config } = parseConfiguration(text, options.platform);
    const { project } = options;
    const key = keyOfRun({ ...config, ...step, project, diffIds: held.diffIds, values: made.values });
    const layer = this.#path("tar");
    const kept = await cache.take(key, layer);
    this.#tell(step.line, `${kept === null ? "" : "cached: "}RUN ${step.said}`);
    if (kept !== null) {
      this.#tars.set(kept, layer);
      made.stored = null;
      made.held = withLayer(held, kept);
      return;
    }
    await this.#place(held.diffIds);
    const image: Image = {
      digest: digestOf(text),
      reference: subject.name,
      config,
      layers: options.store.layerFolders(held.diffIds),
      bytes: 0,
    };
    const output = new RunOutput(this.#told);
    const memoryMb = options.runMemoryMb;
    const writableBytes = Math.min(imageLimits.runWritableBytes, memoryMb * 1024 ** 2 * imageLimits.runWritableShare);
    const end = await runStep({
      project,
      image,
      command: step.command,
      env: Object.fromEntries(made.values),
      egress: step.network ? "internet" : "none",
      memoryMb,
      writableBytes,
      timeoutMs: leftMs,
      signal,
      output: (piece) => output.take(piece),
      keep: (changes, firstId) =>
        packerOf(options.node, { changes, firstId, layer, leftOut: step.leftOut }, writableBytes),
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      // A user that is nobody's, a file where a folder has to be: the image's own.
      if (error instanceof EbbError && error.code === "start_failed") throw refuse(step.line, error.message);
      throw error;
    });
    output.end();
    const extra = { output: output.last };
    const failed = (why: string): EbbError =>
      new EbbError("image_refused", refuse(step.line, `${why}: RUN ${step.said}`).message, { extra });
    if (!end.ok && end.reason === "memory")
      throw failed(`It needs more memory than a build has (${memoryMb} MiB, and what it writes is of that)`);
    if (!end.ok) throw failed(end.message.replace(/\.$/, ""));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
    const packed = JSON.parse(end.kept) as PackResult;
    if ("full" in packed) throw storageFull();
    if ("refused" in packed) throw failed(`What it has changed cannot be kept: ${packed.refused}`);
    const { digest, bytes } = packed;
    this.#tars.set(digest, layer);
    await this.#place([digest]);
    await cache.keep(key, { digest, bytes, path: layer });
    made.stored = null;
    made.held = withLayer(held, digest);
  }

  /** Its name in buildah's storage, where it is put if need be: only of what buildah has not the tar is needed. */
  async #toBuildah(made: Made): Promise<string> {
    if (made.stored !== null) return made.stored;
    const { buildah, run } = this.#build;
    const layout = join(run.staging.folder, `step-${++this.#count}`);
    await mkdir(join(layout, "blobs", "sha256"), { recursive: true });
    const held = made.held!;
    const new_ = new Set(held.diffIds.filter((diffId) => !this.#stored.has(diffId)));
    for (const diffId of new_) await link(this.#tars.get(diffId)!, blobPath(layout, diffId));
    await this.#write(held, layout);
    const name = this.#name();
    const to = `containers-storage:${name}`;
    await buildah(["skopeo", "--insecure-policy", "copy", "--quiet", `oci:${layout}:image`, to]);
    for (const diffId of new_) this.#stored.add(diffId);
    await rm(layout, { recursive: true });
    return (made.stored = name);
  }

  /**
   * An image that buildah has just made. Where the very same was copied in an earlier build, it is as old as it was there: so it is the
   * same layer, and what a command has made of it, and its times, holds.
   */
  async #dating(stored: string): Promise<Held> {
    const layout = join(this.#build.run.staging.folder, `step-${++this.#count}`);
    const { configuration, diffIds, blobs } = await this.#pushed(stored, layout);
    for (const [index, diffId] of diffIds.entries()) {
      if (this.here.has(diffId) || this.#tars.has(diffId) || this.#dated.has(diffId)) continue;
      const { digest, layer } = await this.#date(blobPath(layout, blobs[index]!));
      this.#dated.set(diffId, digest);
      this.#tars.set(digest, layer);
    }
    await rm(layout, { recursive: true });
    const dated = diffIds.map((diffId) => this.#dated.get(diffId) ?? diffId);
    return withLayers(configuration, dated);
  }

  async #date(blob: string): Promise<{ readonly digest: string; readonly layer: string }> {
    const { options, run, cache } = this.#build;
    const { spawner, node, project } = options;
    const [layer, times] = [this.#path("tar"), this.#path("times")];
    const own = await dateLayer(spawner, node, { blob, layer, times, given: false }, run.signal);
    const key = keyOfTimes(project, own.content);
    const earlier = this.#path("times");
    const known = await cache.take(key, earlier);
    if (known === null) await cache.keep(key, { ...own, path: times });
    if (known === null || known === own.digest) return { digest: own.digest, layer };
    const dated = this.#path("tar");
    const { digest } = await dateLayer(
      spawner,
      node,
      { blob: layer, layer: dated, times: earlier, given: true },
      run.signal,
    );
    await rm(layer);
    return { digest, layer: dated };
  }

  /** Its layers that are here are not written out again: an empty file says that they are there. */
  async #pushed(name: string, layout: string): Promise<Held & { readonly blobs: readonly string[] }> {
    const { options, run, buildah } = this.#build;
    await mkdir(join(layout, "blobs", "sha256"), { recursive: true });
    for (const diffId of [...this.here.keys(), ...this.#tars.keys()]) await writeFile(blobPath(layout, diffId), "");
    await buildah(["buildah", "push", "--quiet", "--disable-compression", name, `oci:${layout}:image`]);
    const { manifest } = await readLayout(layout, options.platform, run.subject.name);
    const text = await readBlob(layout, manifest.config.digest, imageLimits.configBytes, run.subject.name);
    const { diffIds } = parseConfiguration(text, options.platform);
    return { configuration: objectOf(text), diffIds, blobs: manifest.layers.map(({ digest }) => digest) };
  }

  async #write({ configuration, diffIds }: Held, layout: string): Promise<void> {
    const layers = diffIds.map((digest) => ({ digest, bytes: 0 }));
    await writeLayout(layout, JSON.stringify(configuration), layers);
  }

  /** Unpacks those that are not here yet. */
  async #place(diffIds: readonly string[]): Promise<void> {
    const { options, run } = this.#build;
    const { store, unpacks, project } = options;
    const missing = [...new Set(diffIds)].filter((diffId) => !this.here.has(diffId));
    this.#unpins.push(store.pin(missing));
    const blobs = missing.flatMap((diffId) => {
      const layer = store.layer(diffId, project);
      if (layer === null) return [{ digest: diffId, diffId, blob: this.#tars.get(diffId)! }];
      this.here.set(diffId, { ...layer, digest: diffId });
      return [];
    });
    if (blobs.length === 0) return;
    const left = { entries: imageLimits.entries, bytes: imageLimits.unpackedBytes };
    for (const layer of this.here.values()) {
      left.entries -= layer.entries;
      left.bytes -= layer.bytes;
    }
    const folder = join(run.staging.folder, `unpacked-${++this.#count}`);
    const unpacked = await unpacks.take(run.signal, () => unpackLayers({ ...options, ...run, folder, blobs, left }));
    for (const layer of unpacked) {
      const { diffId } = layer.record;
      await store.addLayer(layer.folder, diffId);
      this.here.set(diffId, { ...layer.record, digest: diffId });
    }
  }

  /** Where it is at, and a line of what it has done. */
  #tell(line: number, words: string): void {
    const { options, run } = this.#build;
    const said = `line ${line}: ${words.slice(0, saidChars)}`;
    options.progress(`building ${run.subject.name}, ${said}`);
    options.progress(said, true);
  }

  #path(kind: "tar" | "times"): string {
    return join(this.#build.run.staging.folder, `layer-${++this.#count}.${kind}`);
  }

  #name(): string {
    return `localhost/ebb-step:${++this.#count}`;
  }

  #nowMs(): number {
    return this.#build.options.clock.monotonicUs() / 1_000;
  }
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  const value: unknown = JSON.parse(text);
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function withLayer({ configuration, diffIds }: Held, diffId: string): Held {
  return withLayers(configuration, [...diffIds, diffId]);
}

function withLayers(configuration: Held["configuration"], diffIds: readonly string[]): Held {
  // Its history would have to be told as well, and nobody asks for it.
  const { history: _, ...rest } = configuration;
  return { configuration: { ...rest, rootfs: { type: "layers", diff_ids: diffIds } }, diffIds };
}

/** What buildah made of the variables, which it was asked for by labels: these are no part of the image. */
function withoutArguments(configuration: Held["configuration"]): {
  readonly configuration: Held["configuration"];
  readonly values: ReadonlyMap<string, string>;
} {
  const values = new Map<string, string>();
  const { config } = configuration;
  if (typeof config !== "object" || config === null) return { configuration, values };
  const labels: unknown = Reflect.get(config, "Labels");
  if (typeof labels !== "object" || labels === null) return { configuration, values };
  const kept: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(labels)) {
    if (key.startsWith(argumentLabel)) values.set(key.slice(argumentLabel.length), String(value));
    else kept[key] = value;
  }
  return { configuration: { ...configuration, config: { ...config, Labels: kept } }, values };
}
