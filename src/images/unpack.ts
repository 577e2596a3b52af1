// Starts the program that unpacks layers, and reads what came of it.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import { falseContent, storageFull, type Subject } from "./failures.ts";
import { folderName, type LayerRecord } from "./store.ts";
import type { UnpackPlan, UnpackResult } from "./unpack/main.ts";

export interface UnpackOptions {
  readonly spawner: Pick<Spawner, "exec">;
  readonly node: string;
  readonly subject: Subject;
  readonly signal: AbortSignal;
  /** Made here; the program is locked into it. */
  readonly folder: string;
  readonly blobs: ReadonlyArray<{ readonly digest: string; readonly diffId: string; readonly blob: string }>;
  readonly left: { readonly entries: number; readonly bytes: number };
}

const program = fileURLToPath(new URL("./unpack/main.ts", import.meta.url));
/** Owners, devices 0:0, overlayfs's marks and the way into the folder; nothing else of what root can. */
const capabilities = ["chown", "dac_override", "fowner", "fsetid", "mknod", "sys_admin", "sys_chroot"];

export async function unpackLayers(
  options: UnpackOptions,
): Promise<Array<{ readonly folder: string; readonly record: LayerRecord }>> {
  const { spawner, node, subject, signal, folder, blobs, left } = options;
  await mkdir(folder, { mode: 0o700 });
  const plan: UnpackPlan = {
    root: folder,
    layers: blobs.map((one) => ({ ...one, folder: folderName(one.diffId) })),
    left: { ...left },
    bounds: { pathBytes: imageLimits.pathBytes, pathDepth: imageLimits.pathDepth, ids: imageLimits.ids },
  };
  const bounding = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
  const argv = [
    "unshare", "--net", "--ipc", "--",
    "setpriv", "--no-new-privs", "--inh-caps=-all", `--bounding-set=${bounding}`, "--",
    "nice", "-n", "5",
    node, "--experimental-ffi", "--disable-warning=ExperimentalWarning", program,
  ]; // prettier-ignore
  const told = await spawner.exec(argv, {
    stdin: JSON.stringify(plan),
    timeoutMs: imageLimits.unpackMs,
    signal,
  });
  if (told.code !== 0) throw new EbbError("internal", `an image was not unpacked: ${told.stderr.slice(0, 500)}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
  const result = JSON.parse(told.stdout) as UnpackResult;
  if ("refused" in result) throw new EbbError("image_refused", `${subject.name}: ${result.refused}`);
  if ("false" in result) throw falseContent(subject.name, subject.registry);
  if ("full" in result) throw storageFull();
  return blobs.map(({ digest, diffId }, index) => {
    const { bytes, entries } = result.done[index]!;
    return { folder: join(folder, folderName(diffId)), record: { digest, diffId, bytes, entries } };
  });
}
