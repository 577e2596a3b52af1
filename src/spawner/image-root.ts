// The root of an image for one sandbox: its layers with the sandbox's own ids, and a bounded layer above them that may be written.
// Layers are shared by all sandboxes and never changed or copied: the kernel shifts their owners on the way (idmapped mounts).

import {
  chmodSync,
  chownSync,
  closeSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import type { Make } from "./door.ts";
import type { Syscalls } from "./syscalls.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

type ImageRoot = Extract<Make, { kind: "image" }>;

const layerName = (index: number): string => `m${index}`;

/** Everything is below `folder`, which becomes a tmpfs: what unmounts that, and all below it, undoes it. */
export function makeImageRoot(image: ImageRoot, system: Syscalls, namespaces: UserNamespaces): void {
  const { folder, layers, ids } = image;
  const top = layers.at(-1);
  if (top === undefined) throw new Error("an image without a layer");
  mkdirSync(folder, { mode: 0o700 });
  system.tmpfs(folder, image.bytes, "0700");
  system.makePrivate(folder);
  // The engine passes as the sandbox's root; the machine's own users see mounts listed, and are not to look into them.
  chownSync(folder, ids.first, ids.first);
  for (const name of ["upper", "work", image.root]) mkdirSync(join(folder, name), { mode: 0o755 });
  const { mode } = statSync(top);
  chmodSync(join(folder, "upper"), mode & 0o1777);
  chownSync(join(folder, "upper"), ids.first, ids.first);
  overlayLayers(image, system, namespaces);
  furnish(image, join(folder, image.root));
}

/** Whose kernel takes nothing for a layer that is mounted nowhere (before Linux 6.14 or so). */
const olderOnes = new WeakSet<Syscalls>();

function overlayLayers(image: ImageRoot, system: Syscalls, namespaces: UserNamespaces): void {
  const { folder, layers } = image;
  const views = viewsOf(image, system, namespaces);
  const names = layers.map((_, index) => layerName(index));
  const lower = names.toReversed();
  const overlay = (): void => system.writableOverlay(folder, { lower, upper: "upper", work: "work" }, image.root);
  try {
    if (!olderOnes.has(system)) {
      for (const [index, view] of views.entries()) symlinkSync(`/proc/self/fd/${view}`, join(folder, names[index]!));
      try {
        return overlay();
      } catch {
        olderOnes.add(system);
        for (const name of names) unlinkSync(join(folder, name));
      }
    }
    for (const [index, view] of views.entries()) {
      const target = join(folder, names[index]!);
      mkdirSync(target, { mode: 0o700 });
      system.attach(view, target);
    }
    overlay();
    // The overlay has its own copies of these. Each end of a mount waits for all processors.
    for (const name of lower) system.unmount(join(folder, name));
  } finally {
    for (const view of views) closeSync(view);
  }
}

function viewsOf({ layers, ids }: ImageRoot, system: Syscalls, namespaces: UserNamespaces): readonly number[] {
  const views: number[] = [];
  try {
    const namespace = namespaces.of(ids);
    for (const layer of layers) views.push(system.idmapped(layer, namespace));
    return views;
  } catch (error) {
    for (const view of views) closeSync(view);
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(
      `an image's files cannot be given the ids of a sandbox: that takes Linux 5.19, and a file system that can (ext4, xfs, btrfs): ${why}`,
      { cause: error },
    );
  }
}

/**
 * Folders that something is mounted on or written to, and the files that every root has. A link in their place would lead
 * whoever mounts there out of the root, so there must be none; nothing runs inside yet that could change what was seen.
 */
function furnish({ folders, workingDirectory, files, ids }: ImageRoot, root: string): void {
  for (const path of folders) {
    const other = makeFolders(root, path, ids.first);
    if (other !== null) throw new Error(`the image's /${other} is no folder`);
  }
  makeFolders(root, workingDirectory, ids.first);
  for (const { path, text } of files) {
    const target = join(root, path);
    const found = lstatSync(target, { throwIfNoEntry: false });
    if (found?.isDirectory()) throw new Error(`the image's /${path} is no file`);
    if (found !== undefined) unlinkSync(target);
    const file = openSync(target, "wx", 0o644);
    try {
      if (text !== "") writeFileSync(file, text);
      fchownSync(file, ids.first, ids.first);
    } finally {
      closeSync(file);
    }
  }
}

/** The first part that is something else than a folder; null: all of it is there now. */
function makeFolders(root: string, path: string, owner: number): string | null {
  let at = root;
  for (const part of path.split("/").filter((name) => name !== "")) {
    if (part === "." || part === "..") throw new Error(`${path} is no path inside a root`);
    at = join(at, part);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found?.isDirectory()) continue;
    if (found !== undefined) return relative(root, at);
    mkdirSync(at, { mode: 0o755 });
    chownSync(at, owner, owner);
  }
  return null;
}
