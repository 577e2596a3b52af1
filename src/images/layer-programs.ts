// Starts the programs that make the tar of a layer while an image is built: of what a command has changed, and of what buildah has copied.

import { fileURLToPath } from "node:url";
import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { BuildStep } from "#sandbox/door.ts";
import type { Spawner } from "#spawner/door.ts";
import { storageFull } from "./failures.ts";
import type { Dated, DatePlan, DateResult } from "./unpack/date.ts";
import type { PackPlan } from "./unpack/pack.ts";

const packer = fileURLToPath(new URL("./unpack/pack.ts", import.meta.url));
const dater = fileURLToPath(new URL("./unpack/date.ts", import.meta.url));
/** Of each sandbox's own; what a command does to them is nobody's. */
const ownFiles = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];
/** To read what is anybody's, and to be locked in. */
const packing = ["dac_read_search", "sys_admin", "sys_chroot"];

/** The program that a command's changes are packed by, told on its stdin what to do. */
export function packerOf(
  node: string,
  plan: Pick<PackPlan, "changes" | "firstId" | "layer" | "leftOut">,
  bytes: number,
): ReturnType<BuildStep["keep"]> {
  const { entries, pathBytes, pathDepth, ids } = imageLimits;
  const bounds = { entries, bytes, pathBytes, pathDepth };
  const whole: PackPlan = { ...plan, ids, leftOut: [...ownFiles, ...plan.leftOut], bounds };
  return { argv: enclosed(node, packing, packer), stdin: JSON.stringify(whole), timeoutMs: imageLimits.packMs };
}

/** Reads the times of a layer, or gives it others. */
export async function dateLayer(
  spawner: Pick<Spawner, "exec">,
  node: string,
  plan: DatePlan,
  signal: AbortSignal,
): Promise<Dated> {
  const options = { stdin: JSON.stringify(plan), timeoutMs: imageLimits.packMs, signal };
  const { code, stdout, stderr } = await spawner.exec(enclosed(node, [], dater), options);
  if (code !== 0) throw new EbbError("internal", `a layer was not read: ${stderr.slice(0, 500)}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
  const result = JSON.parse(stdout) as DateResult;
  if ("full" in result) throw storageFull();
  return result;
}

function enclosed(node: string, capabilities: readonly string[], program: string): string[] {
  const bounding = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
  return [
    "unshare", "--net", "--ipc", "--",
    "setpriv", "--no-new-privs", "--inh-caps=-all", `--bounding-set=${bounding}`, "--",
    "nice", "-n", "5",
    node, "--experimental-ffi", "--disable-warning=ExperimentalWarning", program,
  ]; // prettier-ignore
}
