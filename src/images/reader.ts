// Reads registries and archives by skopeo and tar: as a user of its own with no right on the machine, into folders of its own, watched
// while they work.

import { existsSync } from "node:fs";
import { opendir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import { failureOf, storageFull, tooManyFiles, tooMuch, type Subject } from "./failures.ts";
import { readSmall } from "./layout.ts";
import { isOnThisMachine } from "./reference.ts";
import type { HasRoom } from "./room-guard.ts";

/** A folder of one fetch; everything of it goes with it. */
export interface Staging {
  readonly folder: string;
  /** Where the reader writes; its own. */
  readonly layout: string;
  readonly scratch: string;
  /** 0600, the reader's own; null: nobody is logged in. */
  readonly authFile: string | null;
}

export interface ReaderOptions {
  readonly spawner: Pick<Spawner, "exec">;
  readonly clock: Clock;
  /** Whom it runs as. */
  readonly uid: number;
  readonly room: HasRoom;
}

export interface Run {
  readonly staging: Staging;
  readonly subject: Subject;
  readonly signal: AbortSignal;
}

export interface Bounds {
  /** More than so many bytes end it. */
  readonly bytesMax: number;
  /** Told now and then how many have come. */
  readonly bytes: (arrived: number) => void;
}

const policyFile = "/etc/containers/policy.json";
const lookEveryMs = 250;

export class Reader {
  readonly uid: number;
  readonly #options: ReaderOptions;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.uid = options.uid;
  }

  /** What the registry has under a name, byte by byte. */
  async manifest(source: string, run: Run): Promise<string> {
    return this.#inspected(["--raw"], source, run, { what: "a manifest", bytesMax: imageLimits.manifestBytes });
  }

  /** The configuration of an image. */
  async configuration(source: string, run: Run): Promise<string> {
    const bounds = { what: "a configuration", bytesMax: imageLimits.configBytes };
    return this.#inspected(["--config", "--raw"], source, run, bounds);
  }

  /** Copies an image into the staging's layout. */
  async copy(source: string, run: Run, bounds: Bounds): Promise<void> {
    const args = ["copy", "--quiet", "--dest-oci-accept-uncompressed-layers", ...credentials(run, "src-"), source];
    const to = `oci:${run.staging.layout}:image`;
    await this.#watched(run, bounds, (watched) => this.#skopeo([...args, to], watched, imageLimits.fetchMs));
  }

  /** Unpacks a layout's tar, plain or gzipped, into the staging's layout: its files, and nobody's owners or modes. */
  async extract(archive: string, run: Run, bounds: Bounds): Promise<void> {
    const argv = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", `--file=${archive}`];
    const to = `--directory=${run.staging.layout}`;
    await this.#watched(run, bounds, (watched) => this.#run([...argv, to], watched, imageLimits.fetchMs));
  }

  /** By way of a file: what programs say at once has a smaller bound, and a fault of theirs is not told from too much of it. */
  async #inspected(
    options: readonly string[],
    source: string,
    run: Run,
    { what, bytesMax }: { readonly what: string; readonly bytesMax: number },
  ): Promise<string> {
    const said = join(run.staging.scratch, "said");
    const into = ["sh", "-c", 'exec "$@" >"$0"', said];
    await this.#skopeo(["inspect", ...options, ...credentials(run, ""), source], run, imageLimits.inspectMs, into);
    return readSmall(said, bytesMax, run.subject.name, what);
  }

  async #watched(run: Run, bounds: Bounds, work: (run: Run) => Promise<unknown>): Promise<void> {
    const ended = new AbortController();
    const { signal } = ended;
    const watch = this.#watch(run, bounds, (error) => ended.abort(error));
    const stop = (): void => ended.abort(run.signal.reason);
    run.signal.addEventListener("abort", stop);
    try {
      run.signal.throwIfAborted();
      await work({ ...run, signal });
    } finally {
      run.signal.removeEventListener("abort", stop);
      watch();
    }
  }

  #skopeo(args: readonly string[], run: Run, timeoutMs: number, by: readonly string[] = []): Promise<string> {
    const policy = existsSync(policyFile) ? [] : ["--insecure-policy"];
    return this.#run([...by, "skopeo", `--tmpdir=${run.staging.scratch}`, ...policy, ...args], run, timeoutMs);
  }

  async #run(program: readonly string[], run: Run, timeoutMs: number): Promise<string> {
    const { spawner, uid } = this.#options;
    const { scratch } = run.staging;
    const argv = [
      // What comes from files needs no network, and gets none.
      ...(run.subject.registry === null ? ["unshare", "--net", "--"] : []),
      "prlimit", `--fsize=${imageLimits.compressedBytes}`, "--",
      "setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--",
      "nice", "-n", "5",
      "env", `HOME=${scratch}`, `TMPDIR=${scratch}`, `XDG_RUNTIME_DIR=${scratch}`,
      ...program,
    ]; // prettier-ignore
    let result;
    try {
      result = await spawner.exec(argv, { timeoutMs, signal: run.signal });
    } catch (error) {
      run.signal.throwIfAborted();
      const { registry, name } = run.subject;
      if (error instanceof Error && /longer than/.test(error.message))
        throw new EbbError(
          registry === null ? "image_refused" : "registry_failed",
          `${registry === null ? name : `the registry ${registry}`} did not give the image within ${timeoutMs / 1_000} s`,
        );
      throw error;
    }
    if (result.code === 127)
      throw new EbbError(
        "internal",
        `${program.includes("skopeo") ? "skopeo" : program[0]} is missing: install it (ebb doctor says how)`,
      );
    if (result.code !== 0) throw failureOf(result.stderr, run.subject);
    return result.stdout;
  }

  /** Looks now and then at what has come; the returned function ends it. */
  #watch({ staging, subject }: Run, { bytesMax, bytes }: Bounds, give: (error: EbbError) => void): () => void {
    const { clock, room } = this.#options;
    let over = false;
    let most = -1;
    let moved = clock.monotonicUs();
    const look = async (): Promise<void> => {
      const { bytes: arrived, entries } = await lookInto(staging.scratch, await lookInto(staging.layout));
      if (over) return;
      if (entries > imageLimits.stagedFiles) return give(tooManyFiles(subject.name));
      bytes(arrived);
      if (arrived > bytesMax) return give(tooMuch(subject.name));
      if (!(await room(staging.folder, 0))) return give(storageFull());
      if (arrived !== most) moved = clock.monotonicUs();
      most = arrived;
      if (clock.monotonicUs() - moved > imageLimits.stallMs * 1_000) {
        const who = subject.registry === null ? subject.name : `the registry ${subject.registry}`;
        return give(new EbbError("registry_failed", `${who} has sent nothing for ${imageLimits.stallMs / 1_000} s`));
      }
      if (!over) cancel = clock.after(lookEveryMs, () => void look());
    };
    let cancel = clock.after(lookEveryMs, () => void look());
    return () => {
      over = true;
      cancel();
    };
  }
}

function credentials({ staging, subject }: Run, prefix: "" | "src-"): string[] {
  if (subject.registry === null) return [];
  const login = staging.authFile === null ? [`--${prefix}no-creds`] : [`--${prefix}authfile=${staging.authFile}`];
  return [...login, ...(isOnThisMachine(subject.registry) ? [`--${prefix}tls-verify=false`] : [])];
}

/** Of a folder and its own folders, as far as it may have entries. What goes while it is looked at counts nothing. */
async function lookInto(folder: string, seen = { bytes: 0, entries: 0 }): Promise<{ bytes: number; entries: number }> {
  try {
    for await (const entry of await opendir(folder)) {
      seen.entries += 1;
      if (seen.entries > imageLimits.stagedFiles) return seen;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) await lookInto(path, seen);
      else if (entry.isFile()) seen.bytes += (await stat(path).catch(() => null))?.size ?? 0;
    }
  } catch {
    // It has gone.
  }
  return seen;
}
