// An image of 200 MB from a registry on this machine: ebb's pull and unpacking beside `buildah pull`.

import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { installation } from "#config.ts";
import {
  asked,
  type Entry,
  imageOf,
  layerOf,
  Room,
  startRegistry,
  type TestImage,
  writeLayout,
} from "../src/images/images.testing.ts";
import { median } from "./load.ts";
import type { Row } from "./row.ts";

const target = 1.5;
const rounds = 3;
const imageBytes = 200e6;

interface Took {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

export async function pull(): Promise<Row> {
  const room = await new Room().start();
  const registry = await startRegistry(join(room.folder, "registry"));
  const reference = `${registry.host}/bench:1`;
  try {
    const layout = writeLayout(join(room.folder, "layout"), await bigImage());
    const to = `docker://${reference}`;
    const pushed = spawnSync("skopeo", ["copy", "-q", "--dest-tls-verify=false", `oci:${layout}`, to]);
    if (pushed.status !== 0) throw new Error(`the image cannot be pushed: ${pushed.stderr.toString()}`);
    const sides = { ebb: [] as Took[], buildah: [] as Took[] };
    // One of each that is not counted: what is read is then in memory for both.
    for (let round = 0; round <= rounds; round++) {
      const order = round % 2 === 0 ? (["ebb", "buildah"] as const) : (["buildah", "ebb"] as const);
      for (const side of order) {
        const folder = join(room.folder, `${side}-${round}`);
        mkdirSync(folder, { mode: 0o711 });
        const took = await (side === "ebb" ? byEbb(room, folder, reference) : byBuildah(room, folder, reference));
        if (round > 0) sides[side].push(took);
        await room.spawner.exec(["rm", "-rf", folder], { timeoutMs: 600_000 });
      }
    }
    return rowOf(sides.ebb, sides.buildah);
  } finally {
    await registry.stop();
    await room.stop();
  }
}

function rowOf(ebb: readonly Took[], buildah: readonly Took[]): Row {
  const of = (side: readonly Took[], key: keyof Took): number => median(side.map((took) => took[key]));
  const ratio = of(ebb, "seconds") / of(buildah, "seconds");
  const say = (side: readonly Took[]): string =>
    `${of(side, "seconds").toFixed(1)} s, ${of(side, "cpuSeconds").toFixed(1)} s CPU`;
  return {
    number: "pull and unpacking of an image of 200 MB from a registry on the same machine",
    target: `≤ ${target}x`,
    floor: `${say(buildah)} (\`buildah pull\`)`,
    seen: `${ratio.toFixed(2)}x (${say(ebb)}, n=${ebb.length})`,
    held: ratio <= target,
  };
}

async function byEbb(room: Room, directory: string, reference: string): Promise<Took> {
  const images = room.create({ directory });
  await room.images.stop();
  await images.start();
  room.images = images;
  return timed(room, () => images.fetch({ kind: "registry", reference }, asked()));
}

async function byBuildah(room: Room, folder: string, reference: string): Promise<Took> {
  const storage = ["--root", join(folder, "root"), "--runroot", join(folder, "run"), "--storage-driver", "overlay"];
  // Its storage mounts itself: in a namespace that goes with it.
  const argv = [
    "unshare",
    "--mount",
    "--",
    "buildah",
    ...storage,
    "pull",
    "--quiet",
    "--tls-verify=false",
    `docker://${reference}`,
  ];
  return timed(room, async () => {
    const { code, stderr } = await room.spawner.exec(argv, { timeoutMs: 600_000 });
    if (code !== 0) throw new Error(`buildah pull: ${stderr}`);
  });
}

/** Both sides' programs are the spawner's children: it has what they used. */
async function timed(room: Room, work: () => Promise<unknown>): Promise<Took> {
  const [began, used] = [performance.now(), childrenCpu(room.spawnerPid())];
  await work();
  return { seconds: (performance.now() - began) / 1_000, cpuSeconds: childrenCpu(room.spawnerPid()) - used };
}

/** proc(5): fields 16 and 17 of stat, in hundredths of a second. */
function childrenCpu(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

/** What is here in any case: Node's binary as one layer, and as many of the packages' files as make it whole as another. */
async function bigImage(): Promise<TestImage> {
  const binary = readFileSync(process.execPath);
  const root = join(installation, "node_modules");
  const entries: Entry[] = [];
  let bytes = binary.length;
  const listed = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const path of listed.map((entry) => join(entry.parentPath, entry.name)).toSorted()) {
    const { size } = statSync(path);
    if (size > 1e6 || bytes + size > imageBytes) continue;
    bytes += size;
    entries.push({ name: `packages/${relative(root, path)}`, content: readFileSync(path) });
  }
  const node = await layerOf([{ name: "bin/node", mode: 0o755, content: binary }]);
  return imageOf([node, await layerOf(entries)]);
}
