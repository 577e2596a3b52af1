// Images as this driver starts them: the root of each sandbox, and who its program is, which is looked up once for each image.

import { constants } from "node:fs";
import { lstat, mkdir, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Image } from "#images/door.ts";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import type { SandboxId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { Make, Spawner } from "#spawner/door.ts";
import { hostname, idRangeSize, resultPath } from "./config.ts";
import { readUser, type ImageUser } from "./image-user.ts";
import { programOrder, type Program } from "./program.ts";
import { emptyLayer } from "./roots.ts";
import { makeWaiter, type Waiter } from "./waiter.ts";

/** What is started of an image. */
export interface ImageStart {
  readonly image: Image;
  readonly user: ImageUser;
  readonly waiter: Waiter;
}

/** A sandbox that is being made. */
interface Bare {
  readonly id: SandboxId;
  readonly hostId: number;
}

export interface ImageStartsOptions {
  /** null: it is not on this machine. */
  readonly imageOf: (digest: string) => Image | null;
  readonly spawner: Pick<Spawner, "make" | "unmake" | "exec">;
  readonly runDir: string;
  readonly dataDir: string;
}

export class ImageStarts {
  readonly #options: ImageStartsOptions;
  readonly #users = new Map<string, Promise<ImageUser>>();
  #waiter: Promise<Waiter> | null = null;

  constructor(options: ImageStartsOptions) {
    this.#options = options;
  }

  /**
   * `sandbox`: nothing is made of it yet, and nobody else has its ids. `toEnd`: it is to leave a result. An image that is being made is
   * not kept, and looked at each time.
   */
  async of(digest: string | Image, sandbox: Bare, toEnd: boolean): Promise<ImageStart> {
    if (typeof digest !== "string")
      return { image: digest, user: await this.#look(digest, sandbox, toEnd), waiter: await this.waiter() };
    const image = this.#options.imageOf(digest);
    if (image === null)
      throw new EbbError("image_not_found", `The image ${digest} is not on this machine any more. Deploy it again.`);
    const looked = toEnd ? `${digest} to its end` : digest;
    let user = this.#users.get(looked);
    if (user === undefined) {
      user = this.#look(image, sandbox, toEnd);
      this.#users.set(looked, user);
      user.catch(() => this.#users.delete(looked));
    }
    return { image, user: await user, waiter: await this.waiter() };
  }

  /** What is started in every sandbox of an image; found at the first call. */
  waiter(): Promise<Waiter> {
    if (this.#waiter !== null) return this.#waiter;
    const made = this.#mountWaiter();
    this.#waiter = made;
    made.catch(() => (this.#waiter = null));
    return made;
  }

  /** As an overlay, whose mount names no path of the machine; from a folder that the engine may enter. */
  async #mountWaiter(): Promise<Waiter> {
    const { dataDir, runDir, spawner } = this.#options;
    const waiter = await makeWaiter(dataDir, (argv) => spawner.exec(argv));
    const target = join(runDir, "roots", basename(waiter.folder));
    await mkdir(target, { recursive: true, mode: 0o755 });
    const lower = [basename(waiter.folder), join("roots", emptyLayer)];
    await spawner.make({
      owner: "spawner",
      things: [{ kind: "overlay", base: dataDir, lower, target, source: waiter.folder }],
      undo: [{ kind: "unmount", path: target }],
    });
    return { ...waiter, folder: target };
  }

  /** In a root in which nothing runs. What cannot be undone of it is the sandbox's, and keeps its ids with it. */
  async #look(image: Image, { id: owner, hostId }: Bare, toEnd: boolean): Promise<ImageUser> {
    const { spawner, runDir } = this.#options;
    const folder = join(runDir, "sandboxes", owner);
    const root = imageRoot({ image, hostId, folder, bytes: lookBytes, nameserver: null, address: null, toEnd });
    try {
      await spawner.make({
        owner,
        things: [{ kind: "folder", path: folder, mode: 0o711 }, root],
        undo: [...undoOf(folder), { kind: "remove", path: folder }],
      });
      const at = rootPathIn(folder);
      await refusePreload(at);
      const [passwd, group] = [await readPlain(at, ["etc", "passwd"]), await readPlain(at, ["etc", "group"])];
      return readUser(image.config.user, { passwd, group });
    } catch (error) {
      // Its own fault, found by whoever mounts it.
      const words = error instanceof Error ? /the image's \/\S+ is no (?:folder|file)/.exec(error.message) : null;
      throw words === null
        ? error
        : new EbbError("image_refused", `the image cannot be run: ${words[0]}`, { cause: error });
    } finally {
      await spawner.unmake(owner);
    }
  }
}

const lookBytes = 1024 * 1024;

export function rootPathIn(folder: string): string {
  return join(folder, "image", "root");
}

/** What its program has written, as overlayfs has it. */
export function changesIn(folder: string): string {
  return join(folder, "image", "upper");
}

/** Its root goes with what it is mounted in: each end of a mount waits for all processors. */
export function undoOf(folder: string): Array<{ readonly kind: "unmount"; readonly path: string }> {
  return [{ kind: "unmount", path: join(folder, "image") }];
}

/** Below `folder`, a sandbox's own. */
export function imageRoot(options: {
  readonly image: Image;
  readonly hostId: number;
  readonly folder: string;
  readonly bytes: number;
  /** null: there is no network. */
  readonly nameserver: string | null;
  readonly address: string | null;
  /** It is to leave a result: where that is mounted there must be something. */
  readonly toEnd: boolean;
}): Extract<Make, { kind: "image" }> {
  const { image, hostId, folder, bytes, nameserver, address, toEnd } = options;
  return {
    kind: "image",
    layers: image.layers,
    ids: { first: hostId, count: idRangeSize },
    bytes,
    folder: join(folder, "image"),
    root: "root",
    folders: ["proc", "dev", "etc", ...(toEnd ? [dirname(resultPath).slice(1)] : [])],
    workingDirectory: image.config.workingDirectory,
    files: [
      { path: "etc/resolv.conf", text: nameserver === null ? "" : `nameserver ${nameserver}\n` },
      { path: "etc/hosts", text: `127.0.0.1 localhost\n${address ?? "127.0.0.1"} ${hostname}\n` },
      { path: "etc/hostname", text: `${hostname}\n` },
      ...(toEnd ? [{ path: resultPath.slice(1), text: "" }] : []),
    ],
  };
}

const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** As docker has it: PATH and HOME where the image says nothing, the image's environment, the revision's over it. */
export function imageOrder(assignment: Program, { image, user }: ImageStart): string {
  const { env, workingDirectory } = image.config;
  // A shell keeps no variable whose name is none, and no program looks for one.
  const named = Object.entries(env).filter(([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  return programOrder(assignment, workingDirectory, { PATH: imagePath, HOME: user.home, ...Object.fromEntries(named) });
}

/** What the waiting shell's exit code says of the program that it was to become; null: the program's own. */
export function wordsOfExit(
  code: number | null,
  { command }: Pick<Program, "command">,
  { image }: ImageStart,
): string | null {
  const [program = ""] = command ?? [];
  // A program's own code may be the same, and then says the same of what it calls.
  if (code === 127) return `It exited with code 127: "${program}", or a program that it calls, is not in the image.`;
  if (code !== 126) return null;
  const folder = image.config.workingDirectory;
  return `It exited with code 126: "${program}", or a program that it calls, cannot be run in ${folder} by the image's user.`;
}

/** It would be loaded into the shell that waits for its order: an image's code would run before anybody has called it. */
async function refusePreload(root: string): Promise<void> {
  const found = await lstat(join(root, "etc", "ld.so.preload")).catch(() => null);
  if (found === null || (found.isFile() && found.size === 0)) return;
  throw new EbbError(
    "image_refused",
    "the image cannot be run: it has /etc/ld.so.preload, which every program would load; name it in LD_PRELOAD instead",
  );
}

/** A file of an image, by no link and with a bound; null: there is none, or something else. */
async function readPlain(root: string, path: readonly string[]): Promise<string | null> {
  let at = root;
  for (const part of path.slice(0, -1)) {
    at = join(at, part);
    const found = await lstat(at).catch(() => null);
    if (!found?.isDirectory()) return null;
  }
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(join(at, path.at(-1)!), flags).catch((error: unknown) => {
    if (["ENOENT", "ELOOP", "ENXIO"].includes(errnoOf(error) ?? "")) return null;
    throw error;
  });
  if (file === null) return null;
  try {
    const found = await file.stat();
    if (!found.isFile()) return null;
    if (found.size > sandboxLimits.accountsBytes)
      throw new EbbError("image_refused", `the image cannot be run: its /${path.join("/")} is too large`);
    const buffer = Buffer.alloc(sandboxLimits.accountsBytes);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}
