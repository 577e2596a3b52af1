// What the measures share: one ebb with the benchmark's functions deployed, and the questions they ask it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bootDir, reservedEntries } from "#spawner/allocator.ts";
import { parseOwner } from "#spawner/owners.ts";
import { defaultRunRoot } from "#spawner/run-root.ts";
import { oneAnswer } from "./one-answer.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";

/** Listens on whatever PORT says, a number or a path: the same file is the floor and the function. */
const server =
  'import { createServer } from "node:http";\ncreateServer((q, s) => s.end("hello")).listen(process.env.PORT);\n';
const web = "export default () => new Response('hello');\n";
/** Reads what is posted. */
const json = "export default async (q) => new Response(q.method === 'POST' ? (await q.json()).greeting : 'hello');\n";
const python = 'def handler(event, context):\n    return {"statusCode": 200, "body": "hello"}\n';
/** So slow that only as many instances as requests get through them in time. */
const slow =
  "export default async () => (await new Promise((done) => setTimeout(done, 20_000)), new Response('hello'));\n";

export const briefIdleSeconds = 1;

const app = `
functions:
  cold: { source: ./server, public: true, memoryMb: 128, idleSeconds: 0 }
  cold-web: { source: ./web, public: true, memoryMb: 128, idleSeconds: 0 }
  cold-python: { source: ./python, public: true, memoryMb: 128, idleSeconds: 0 }
  warm: { source: ./server, public: true, memoryMb: 128, concurrency: 100, max: 1, idleSeconds: 600 }
  web: { source: ./web, public: true, memoryMb: 128, concurrency: 100, max: 1, idleSeconds: 600 }
  json: { source: ./json, public: true, memoryMb: 128, concurrency: 100, max: 1, idleSeconds: 600 }
  brief: { source: ./web, public: true, memoryMb: 128, idleSeconds: ${briefIdleSeconds} }
  many: { source: ./slow, public: true, memoryMb: 64, max: 100, idleSeconds: 600 }
`;

/** How many it deploys. */
export const functionsOfWorld = app.match(/^ {2}\S+: \{/gm)?.length ?? 0;

export interface World {
  readonly daemon: Daemon;
  /** The server's folder and its file. */
  readonly code: string;
  readonly entry: string;
  /** A call of a workload by its host name, which must answer 200. */
  call(workload: string): Promise<void>;
  /** GET of the API, parsed. */
  ask<T>(path: string): Promise<T>;
  instances(workload: string): Promise<number>;
  /** The sockets of its sandboxes; one goes with the last of its sandbox. */
  sockets(): string[];
  /** Nothing of any sandbox is left. */
  empty(): Promise<void>;
  remove(): Promise<void>;
}

/** `poolMib`: for sandboxes that are started ahead; without it there are none. `directory`: of an earlier ebb; it goes with the world. */
export async function createWorld(poolMib = 0, directory?: string): Promise<World> {
  const folder = folderOf({
    "ebb.yaml": app,
    "server/index.mjs": server,
    "web/index.mjs": web,
    "json/index.mjs": json,
    "python/main.py": python,
    "slow/index.mjs": slow,
  });
  // Some of its instances are called past ebb, which would not let a paused one go on.
  const daemon = await startDaemon({
    args: ["--pool", String(poolMib), "--pause", "off"],
    ...(directory !== undefined && { directory }),
  });
  const sockets = socketFolderOf(daemon.process.pid ?? 0);
  const world: World = {
    daemon,
    code: join(folder, "server"),
    entry: "index.mjs",
    async call(workload) {
      const answer = await oneAnswer({ port: daemon.port }, `${workload}.localhost`);
      if (!answer?.startsWith("HTTP/1.1 200 ") || !answer.endsWith("hello"))
        throw new Error(`${workload} answered: ${answer}`);
    },
    async ask<T>(path: string) {
      const answer = await daemon.fetch(null, path, { headers: { authorization: `Bearer ${daemon.token}` } });
      if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}: ${answer.text}`);
      return JSON.parse(answer.text) as T;
    },
    async instances(workload) {
      return (await world.ask<{ instances: number }>(`/api/v1/projects/default/workloads/${workload}`)).instances;
    },
    sockets: () => readdirSync(sockets).map((name) => join(sockets, name)),
    async empty() {
      await eventually("no sandbox is left", () => Promise.resolve(world.sockets().length === 0));
    },
    async remove() {
      await daemon.stop();
      removeDirectory(daemon.directory);
      removeDirectory(folder);
    },
  };
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
  } catch (error) {
    await world.remove();
    throw error;
  }
  return world;
}

/** Its sockets' folder: of the run directory whose `owner` file names the process. */
function socketFolderOf(pid: number): string {
  const boot = bootDir(defaultRunRoot());
  for (const name of readdirSync(boot).filter((entry) => !reservedEntries.has(entry))) {
    const owner = join(boot, name, "owner");
    if (existsSync(owner) && parseOwner(readFileSync(owner, "utf8"))?.pid === pid) return join(boot, name, "sockets");
  }
  throw new Error(`process ${pid} has no run directory`);
}
