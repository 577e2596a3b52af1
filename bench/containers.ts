// Containers: what the first caller waits for, in turn with a bare engine's start of the same image, and how long fifty at once take.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { imageOf, layerOf, startOwnRegistry, tarOf, type Entry, type TestImage } from "#images/images.testing.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { engineHere } from "./bare-engine.ts";
import { createBareImage } from "./bare-image.ts";
import { median, percentile } from "./load.ts";
import { oneAnswer } from "./one-answer.ts";
import { wordsOf, type Contender } from "./peers/contender.ts";
import { podmanRun } from "./peers/podman.ts";
import { inMs, type Row } from "./row.ts";
import { settled } from "./settled.ts";

const overMs = 15;
const crowd = 50;
const crowdMs = 2_500;
const crowds = 3;
const poolMib = 512;
const environment = ["PATH=/usr/bin:/bin"];

interface Case {
  readonly name: "light" | "node";
  readonly title: string;
  readonly image: TestImage;
  readonly tar: Buffer;
  readonly args: readonly string[];
}

export async function containers(rounds: number): Promise<Row[]> {
  const cases = [await light(), await nodeServer()];
  const registries = await Promise.all(cases.map(({ image }) => startOwnRegistry(image)));
  const [alone, pooled] = await Promise.all([0, poolMib].map((mib) => deployed(cases, registries, mib)));
  try {
    const rows: Row[] = [];
    for (const one of cases) rows.push(...(await starts(one, rounds, alone!, pooled!)));
    rows.push(await fromNothing(alone!));
    return rows;
  } finally {
    for (const daemon of [alone!, pooled!]) {
      await daemon.stop();
      removeDirectory(daemon.directory);
    }
    for (const registry of registries) await registry.stop();
  }
}

async function deployed(
  cases: readonly Case[],
  registries: ReadonlyArray<{ readonly host: string }>,
  poolMib: number,
): Promise<Daemon> {
  const hosts = registries.flatMap(({ host }) => ["--registry", host]);
  const daemon = await startDaemon({ args: ["--pool", String(poolMib), "--pause", "off", ...hosts] });
  const lines = cases.map(
    ({ name }, i) =>
      `  ${name}: { image: "${registries[i]!.host}/bench/${name}:latest", public: true, memoryMb: 128, idleSeconds: 0 }\n`,
  );
  const app = folderOf({
    "ebb.yaml": `containers:\n${lines.join("")}  many: { image: "${registries[0]!.host}/bench/light:latest", public: true, memoryMb: 64, max: ${crowd}, concurrency: 1, idleSeconds: 0 }\n`,
  });
  const result = await daemon.ebb(["deploy", app]);
  removeDirectory(app);
  if (result.code !== 0) throw new Error(result.stderr);
  return daemon;
}

async function starts(one: Case, rounds: number, alone: Daemon, pooled: Daemon): Promise<Row[]> {
  const engine = await engineHere();
  const bare = createBareImage(engine.path, [one.tar], one.args, environment);
  const podman = await podmanOf(one);
  const times = { bare: [] as number[], alone: [] as number[], pooled: [] as number[], podman: [] as number[] };
  const through = async (daemon: Daemon): Promise<number> => {
    await settled(daemon);
    const began = performance.now();
    await call(daemon, one.name);
    return performance.now() - began;
  };
  // The same rest before each: an engine soon behind another start finds the kernel's grace period over (docs/decisions/launches.md).
  const rested = async (start: () => Promise<number>): Promise<number> => {
    await settled(alone);
    return start();
  };
  const turns = [
    async () => void times.bare.push(await rested(() => bare.start())),
    async () => void times.alone.push(await through(alone)),
    async () => void times.pooled.push(await through(pooled)),
    ...("absent" in podman
      ? []
      : [async () => void times.podman.push(await rested(() => podman.contender.coldStart()))]),
  ];
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn();
      // The first of each finds cold caches.
      if (round === 0) for (const of of Object.values(times)) of.length = 0;
    }
  } finally {
    await bare.remove();
    podman.remove();
  }
  const floor = median(times.bare);
  const seen = (of: readonly number[]): string => {
    const p90 = percentile(
      of.toSorted((a, b) => a - b),
      90,
    );
    return `p50 ${inMs(median(of))} (${(median(of) / floor).toFixed(2)}x), p90 ${inMs(p90)}, n=${of.length}`;
  };
  const bareRow = `${inMs(floor)} (${engine.name} run of the same image, on the host's network)`;
  const row = (number: string, of: readonly number[]): Row => ({
    number,
    target: `≤ floor + ${inMs(overMs, 0)}`,
    floor: bareRow,
    seen: seen(of),
    held: median(of) <= floor + overMs,
  });
  return [
    row(`container from zero, ${one.title}, no pool`, times.alone),
    row(`the same, taken from the pool`, times.pooled),
    {
      number: "the same image by `podman run`, on the host's network, without a user namespace and limits",
      target: "–",
      floor: bareRow,
      seen: "absent" in podman ? podman.absent : seen(times.podman),
      held: null,
    },
  ];
}

/** The image as podman has it, and what of it has to go; why it cannot be had here. */
async function podmanOf(
  one: Case,
): Promise<{ readonly remove: () => void } & ({ readonly contender: Contender } | { readonly absent: string })> {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bench-podman-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    const archive = join(folder, "image.tar");
    writeFileSync(archive, one.tar);
    return { contender: await podmanRun(folder, archive, one.args), remove };
  } catch (error) {
    return { absent: wordsOf(error), remove };
  }
}

/** Fifty callers whom one container each can serve. */
async function fromNothing(daemon: Daemon): Promise<Row> {
  const times: number[] = [];
  for (let round = 0; round <= crowds; round++) {
    await settled(daemon);
    const began = performance.now();
    const calls = Promise.all(Array.from({ length: crowd }, () => daemon.fetch("many.localhost", "/cgi-bin/slow")));
    await eventually("all of them run", async () => (await runningIn(daemon)) === crowd, 60_000);
    if (round > 0) times.push(performance.now() - began);
    const wrong = (await calls).find(({ status }) => status !== 200);
    if (wrong) throw new Error(`a call answered ${wrong.status}: ${wrong.text}`);
  }
  return {
    number: `0 to ${crowd} containers of a light image, no pool`,
    target: `≤ ${inMs(crowdMs, 0)}`,
    floor: "–",
    seen: `all run after ${inMs(median(times), 0)} (worst of ${times.length} ${inMs(Math.max(...times), 0)})`,
    held: Math.max(...times) <= crowdMs,
  };
}

async function runningIn(daemon: Daemon): Promise<number> {
  const headers = { authorization: `Bearer ${daemon.token}` };
  const { text } = await daemon.fetch(null, "/api/v1/status", { headers });
  const { instances }: { instances: { running: number } } = JSON.parse(text);
  return instances.running;
}

async function call(daemon: Daemon, workload: string): Promise<void> {
  const answer = await oneAnswer({ port: daemon.port }, `${workload}.localhost`);
  if (!answer?.startsWith("HTTP/1.1 200 ") || !answer.includes("hello"))
    throw new Error(`${workload} answered: ${answer}`);
}

/** One static program with a server in it, and a script that takes longer than fifty starts. */
async function light(): Promise<Case> {
  const entries: Entry[] = [
    { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
    ...["sh", "httpd", "sleep"].map((name) => ({
      name: `bin/${name}`,
      type: "symlink" as const,
      linkname: "busybox",
    })),
    { name: "srv/index.html", content: "hello" },
    {
      name: "srv/cgi-bin/slow",
      mode: 0o755,
      content: "#!/bin/sh\nsleep 15\nprintf 'content-type: text/plain\\r\\n\\r\\nhello'\n",
    },
  ];
  const args = ["/bin/sh", "-c", "exec httpd -f -p $PORT -h /srv"];
  return { name: "light", title: "a static server (busybox httpd)", args, ...(await made(entries, args)) };
}

async function nodeServer(): Promise<Case> {
  const listed = spawnSync("ldd", [process.execPath], { encoding: "utf8" }).stdout;
  const libraries = [...listed.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
  const entries: Entry[] = [
    { name: "usr/bin/node", mode: 0o755, content: readFileSync(process.execPath) },
    ...libraries.map((path) => ({ name: path.slice(1), mode: 0o755, content: readFileSync(path) })),
    {
      name: "app/index.mjs",
      content:
        'import { createServer } from "node:http";\ncreateServer((q, s) => s.end("hello")).listen(process.env.PORT);\n',
    },
  ];
  const args = ["/usr/bin/node", "/app/index.mjs"];
  return { name: "node", title: "a Node server", args, ...(await made(entries, args)) };
}

async function made(entries: readonly Entry[], args: readonly string[]): Promise<Pick<Case, "image" | "tar">> {
  const tar = await tarOf(entries);
  const image = imageOf([await layerOf(tar, "none")], { config: { Entrypoint: args, Env: environment } });
  return { image, tar };
}
