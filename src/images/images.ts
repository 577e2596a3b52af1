// The room: brings images from where they are onto this machine, keeps their layers, and throws away what nobody needs.

import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createHash } from "node:crypto";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Allocator, Spawner } from "#spawner/door.ts";
import { imageLimits } from "#model/limits.ts";
import type { FetchOptions, Image, Images, ImageSource } from "./door.ts";
import { fetchBuild } from "./build.ts";
import { RegistryEgress } from "./egress.ts";
import { fetchArchive, fetchLayout, fetchRegistry, type FetchContext } from "./fetch.ts";
import { givenUp, Joined } from "./joined.ts";
import { platformOf, type Platform } from "./manifest.ts";
import { Reader } from "./reader.ts";
import type { RunStep } from "./staged-build.ts";
import { StepCache } from "./step-cache.ts";
import { ImageStore } from "./store.ts";
import { Turns } from "./turns.ts";

export interface ImagesOptions {
  /** The data directory. */
  readonly directory: string;
  /** The pinned Node: it unpacks. */
  readonly node: string;
  readonly spawner: Pick<Spawner, "exec" | "nft" | "owe" | "onReplaced">;
  readonly allocator: Pick<Allocator, "take" | "free" | "runDir">;
  readonly clock: Clock;
  /** What images may come from though it is not public: HOST or HOST:PORT, of the operator. */
  readonly registries: readonly string[];
  /** The host's name servers. */
  readonly resolvers: () => readonly string[];
  /** Runs one command of a build in a sandbox (fleet.build), with so much memory; left out: a Dockerfile's RUN is refused. */
  readonly runStep?: RunStep;
  readonly runMemoryMb?: number;
  /** How long a build may run things; left out: as limits.ts says. */
  readonly buildMs?: number;
  /** Of images that run here; left out: this machine's. */
  readonly platform?: Platform;
}

/** Who reads registries and archives: nobody's ids, between those of people and those that are handed out for containers. */
const firstReaderId = 70_000;
const readerIds = 4_096;

export function createImages(options: ImagesOptions): Images {
  return new ImagesRoom(options);
}

class ImagesRoom implements Images {
  readonly #options: ImagesOptions;
  readonly #logins: string;
  readonly #store: ImageStore;
  readonly #steps: StepCache;
  /** Builds have their own: code of others may make them last. */
  readonly #builds = new Turns(imageLimits.buildsAtOnce, imageLimits.fetchesWaiting, 1);
  readonly #turns = new Turns(imageLimits.fetchesAtOnce, imageLimits.fetchesWaiting, imageLimits.fetchesAtOnce - 1);
  readonly #unpacks = new Turns(imageLimits.unpacksAtOnce, imageLimits.fetchesAtOnce);
  readonly #pulls = new Map<string, Joined<Image>>();
  readonly #underWay = new Set<Joined<Image>>();
  #readerNumber: number | null = null;
  #reader: Reader | null = null;
  #egress: RegistryEgress | null = null;
  #stopping = false;

  constructor(options: ImagesOptions) {
    this.#options = options;
    this.#logins = join(options.allocator.runDir, "logins");
    const { spawner, clock } = options;
    this.#store = new ImageStore(join(options.directory, "images"), spawner, clock);
    this.#steps = new StepCache({ folder: join(this.#store.folder, "steps"), spawner, clock });
  }

  async start(): Promise<void> {
    const { allocator, spawner, clock } = this.#options;
    this.#stopping = false;
    // Not given back by a stop: the table of that number is owed to be deleted until the spawner ends, who frees it then.
    this.#readerNumber ??= allocator.take("image-readers", readerIds);
    const uid = firstReaderId + this.#readerNumber;
    this.#reader = new Reader({ spawner, clock, uid, room: this.#steps.room });
    const { registries, resolvers } = this.#options;
    this.#egress = new RegistryEgress({ spawner, uid, name: `ebbi${this.#readerNumber}`, registries, resolvers });
    await this.#egress.start();
    await mkdir(this.#logins, { recursive: true });
    // Each of them is its reader's own, who passes through to it.
    await chmod(this.#logins, 0o711);
    await this.#store.start();
    await this.#steps.start();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const ends = [...this.#underWay].map((pull) => {
      pull.end(stoppingError());
      return pull.result.catch(() => {});
    });
    await Promise.all([...ends, this.#store.stop(), this.#steps.stop()]);
    await this.#egress?.stop();
    this.#egress = null;
    this.#reader = null;
  }

  get(digest: string): Image | null {
    return this.#store.image(digest);
  }

  async collect(keep: ReadonlySet<string>): Promise<number> {
    await this.#steps.collect();
    return this.#store.collect(keep);
  }

  async forget(project: string): Promise<void> {
    await this.#steps.forget(project);
    return this.#store.forget(project);
  }

  async fetch(source: ImageSource, options: FetchOptions): Promise<Image> {
    if (options.signal?.aborted === true) throw givenUp();
    if (this.#stopping || this.#reader === null) throw stoppingError();
    const key = source.kind === "registry" ? keyOf(source.reference, options) : null;
    const joined = (key === null ? undefined : this.#pulls.get(key)) ?? this.#begin(source, options, key);
    return joined.join(options.progress, options.signal);
  }

  #begin(source: ImageSource, options: FetchOptions, key: string | null): Joined<Image> {
    const joined = new Joined<Image>((progress, signal) =>
      (source.kind === "build" ? this.#builds : this.#turns).take(
        signal,
        async () => {
          const context: FetchContext = {
            store: this.#store,
            steps: this.#steps,
            reader: this.#reader!,
            egress: this.#egress!,
            spawner: this.#options.spawner,
            node: this.#options.node,
            clock: this.#options.clock,
            platform: this.#options.platform ?? platformOf(process.arch),
            unpacks: this.#unpacks,
            project: options.project,
            login: options.login,
            logins: this.#logins,
            progress,
            signal,
            runStep: this.#options.runStep ?? null,
            runMemoryMb: this.#options.runMemoryMb ?? imageLimits.runMemoryMb,
            buildMs: this.#options.buildMs ?? imageLimits.buildMs,
          };
          if (source.kind === "registry") return fetchRegistry(source.reference, context);
          if (source.kind === "archive") return fetchArchive(source.path, context);
          if (source.kind === "layout") return fetchLayout(source.path, context);
          return fetchBuild(source, context);
        },
        options.project,
      ),
    );
    this.#underWay.add(joined);
    if (key !== null) this.#pulls.set(key, joined);
    const over = (): void => {
      this.#underWay.delete(joined);
      if (key !== null && this.#pulls.get(key) === joined) this.#pulls.delete(key);
    };
    joined.result.then(over, over);
    return joined;
  }
}

function stoppingError(): EbbError {
  return new EbbError("stopping", "ebb is stopping; fetch the image again when it is back");
}

/** Who may read the same from the same place, and nobody else, shares one pull. */
function keyOf(reference: string, { project, login }: FetchOptions): string {
  const secret =
    login &&
    createHash("sha256")
      .update(JSON.stringify([login.username, login.password]))
      .digest("hex");
  return JSON.stringify([reference, project, login?.registry ?? null, secret]);
}
