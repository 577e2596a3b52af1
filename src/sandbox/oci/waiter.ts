// What waits in a sandbox for its order where the image has no shell: the machine's own, with the libraries it needs beside it.

import { createHash } from "node:crypto";
import { chmod, copyFile, mkdir, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { randomHex } from "#model/ids.ts";
import { librariesOf, readElf, type Run } from "./closure.ts";

/** Where it is, inside: in the /dev that is ours, so that no path of the image is touched. */
export const waiterFolder = "/dev/.ebb";
const shells = ["/bin/dash", "/bin/sh"];

export interface Waiter {
  /** To appear at `waiterFolder`. */
  readonly folder: string;
  readonly argv: readonly string[];
}

/** Made once for a version of shell and libraries, below `folder`, whose others go. One at a time. */
export async function makeWaiter(folder: string, run: Run): Promise<Waiter> {
  const waiter = await findOrMake(folder, run);
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (path !== waiter.folder && /^\.?waiter-[0-9a-f]+$/.test(name)) await rm(path, { recursive: true, force: true });
  }
  return waiter;
}

async function findOrMake(folder: string, run: Run): Promise<Waiter> {
  const shell = await firstShell();
  const interpreter = (await readElf(shell))?.interpreter ?? null;
  const libraries =
    interpreter === null
      ? []
      : await Promise.all(
          (await librariesOf([shell], interpreter, run)).map((path) =>
            realpath(path).then((real) => ({ name: basename(path), real })),
          ),
        );
  const files = [{ name: "sh", real: shell }, ...libraries];
  const hash = createHash("sha256");
  for (const { name, real } of files) {
    const { size, mtimeMs, ino } = await stat(real);
    hash.update(`${name} ${real} ${size} ${mtimeMs} ${ino}\n`);
  }
  const target = join(folder, `waiter-${hash.digest("hex").slice(0, 24)}`);
  const inside = (name: string): string => `${waiterFolder}/${name}`;
  const loader = interpreter === null ? [] : [inside(basename(interpreter)), "--library-path", waiterFolder];
  const waiter = { folder: target, argv: [...loader, inside("sh")] };
  if (await isThere(target)) return waiter;
  const unfinished = join(folder, `.waiter-${randomHex(8)}`);
  await mkdir(unfinished, { mode: 0o755 });
  await chmod(unfinished, 0o755);
  for (const { name, real } of files) {
    await copyFile(real, join(unfinished, name));
    await chmod(join(unfinished, name), 0o555);
  }
  try {
    await rename(unfinished, target);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    if (!(await isThere(target))) throw error;
  }
  return waiter;
}

async function firstShell(): Promise<string> {
  for (const path of shells) if (await isThere(path)) return realpath(path);
  throw new Error("this machine has no /bin/sh");
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
