// Where images are kept: in the data directory, under a path that whoever reads registries for ebb may go along.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Spawner } from "#spawner/door.ts";

export interface ImageFolder {
  readonly directory: string;
  readonly runDir: string;
  readonly spawner: Pick<Spawner, "bind">;
}

/**
 * Readers are nobody's users, and what lies above a data directory is somebody's home more often than not. So they come by the run
 * directory, where the same folder is bound.
 */
export async function bindImageFolder({ directory, runDir, spawner }: ImageFolder): Promise<void> {
  const source = join(directory, "images");
  const target = join(runDir, "images");
  for (const path of [source, target]) await mkdir(path, { recursive: true, mode: 0o711 });
  await spawner.bind({ source, target, readOnly: false, owner: "spawner" });
}
