// An ebb whose threads a test can end, what it serves, and the ends that deaths.test.ts shows in short and deaths.soak.ts in full.

import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { lifecycle } from "#model/limits.ts";
import { eventually, folderOf, startDaemon, type Daemon } from "./fixture.ts";
import { startLoad, type Load } from "./load.ts";
import { livesOf, nothingLeftOf, tracesOf, type Life } from "./traces.ts";

/** The caller removes it. */
export function appOfDeaths(): string {
  const code = folderOf({
    "ebb.yaml": `functions:
  steady: { source: ./steady, public: true, memoryMb: 64, max: 3, concurrency: 3 }
  logging: { source: ./steady, public: true, memoryMb: 64, max: 1 }
  cold: { source: ./steady, public: true, memoryMb: 64, idleSeconds: 0 }
  endless: { source: ./endless, public: true, memoryMb: 64, timeoutSeconds: 60 }
  deaf: { source: ./deaf, runtime: custom, command: [./deaf], public: true, memoryMb: 64, timeoutSeconds: 60 }
`,
    "steady/index.mjs":
      "export default async (r) => { console.log('at', r.url); await new Promise(f => setTimeout(f, 20)); return new Response('ok'); };",
    "endless/index.mjs": "export default () => new Promise(() => {});",
    // As endless, and a tenth of the CPU time to start: where there are many.
    "deaf/deaf": `#!/usr/bin/perl
use IO::Socket::INET;
$SIG{TERM} = "IGNORE";
my $server = IO::Socket::INET->new(Listen => 9, LocalAddr => "0.0.0.0", LocalPort => $ENV{PORT}) or die $@;
my @open;
while (my $one = $server->accept) { push @open, $one }
`,
  });
  chmodSync(join(code, "deaf/deaf"), 0o755);
  return code;
}

export interface Mortal {
  readonly daemon: Daemon;
  readonly life: Life;
  /** See worker-control.mjs. */
  tellWorkers(line: string): Promise<void>;
}

/** `control`: a folder for the socket by which it is told. */
export async function startMortal(control: string, options: { directory?: string }): Promise<Mortal> {
  const socket = join(control, "control");
  const daemon = await startDaemon({
    ...options,
    args: ["--pause", "1"],
    env: {
      EBB_TEST_CONTROL: socket,
      NODE_OPTIONS: `${process.env["NODE_OPTIONS"] ?? ""} --import ${new URL("./worker-control.mjs", import.meta.url).href}`,
    },
  });
  const [life] = livesOf(daemon.process.pid ?? 0);
  assert.ok(life, "a daemon has a run directory");
  const tellWorkers = async (line: string): Promise<void> => {
    const connection = connect(socket);
    connection.write(`${line}\n`);
    connection.resume();
    await once(connection, "close");
  };
  return { daemon, life, tellWorkers };
}

export function platform(daemon: Daemon, path: string): ReturnType<Daemon["fetch"]> {
  return daemon.fetch(null, path, { headers: { authorization: `Bearer ${daemon.token}` } });
}

/** It has died before, maybe: that counts as well. */
export async function endsByDeathsOf(worker: "store" | "telemetry", mortal: Mortal): Promise<void> {
  const { daemon, life } = mortal;
  const ended = once(daemon.process, "exit");
  const question = worker === "store" ? "/api/v1/usage" : "/api/v1/projects/default/logs";
  const dead = (): boolean => daemon.process.exitCode !== null;
  for (let deaths = 0; deaths < 3 && !dead(); deaths++) {
    await mortal.tellWorkers(worker).catch(() => undefined);
    await eventually(
      "it is replaced, or that was the last",
      async () => dead() || (await platform(daemon, question).catch(() => null))?.status === 200,
    );
  }
  const [exit] = (await ended) as [number | null];
  assert.equal(exit, 1, daemon.log());
  assert.match(daemon.log(), new RegExp(`^ebb: the ${worker}.*worker died 3 times within a minute`, "m"));
  await nothingLeftOf([life], 2_500);
}

/** A load that runs: each of these has been served. */
export async function loadOf(daemon: Daemon, workloads: readonly string[], pauseMs = 20): Promise<Load> {
  const load = startLoad({ port: daemon.port, workloads, pauseMs });
  await eventually("the load runs", async () => {
    const served = load.complete().filter((one) => one.status === 200);
    return served.length > 10 && workloads.every((name) => served.some(({ workload }) => workload === name));
  }).catch(async (error: unknown) => {
    await load.stop();
    throw error;
  });
  return load;
}

/** By SIGTERM, under load, with so many calls open that never end. The load, which has stopped. */
export async function drains({ daemon, life }: Mortal, open: Readonly<Record<string, number>>): Promise<Load> {
  const workloads = Object.entries(open).flatMap(([name, count]) => Array.from({ length: count }, () => name));
  const neverEnding = startLoad({ port: daemon.port, workloads, once: true });
  await eventually("all are open", async () => {
    const listed = new Map((await daemon.client.workloads.list("default")).map((row) => [row.name, row.instances]));
    return Object.entries(open).every(([name, count]) => listed.get(name) === count);
  });
  const load = await loadOf(daemon, ["steady", "steady", "cold"]);
  const startedMs = performance.now();
  const ending = daemon.stop();
  try {
    await eventually("it lets nobody in", async () =>
      load.seen.some(({ status, ending: how }) => status === 503 || how === "unanswered"),
    );
  } finally {
    await load.stop();
  }
  const exit = await ending;
  const tookMs = performance.now() - startedMs;
  await neverEnding.stop();
  assert.equal(exit, 0, daemon.log());
  assert.ok(tookMs >= lifecycle.drainMs && tookMs < 10_000, `it took ${tookMs} ms`);
  assert.deepEqual(tracesOf([life]), []);
  // Nobody who was let in was cut off, but for those that never end.
  for (const one of load.seen)
    assert.ok(one.status === 200 || one.status === 503 || one.ending === "unanswered", JSON.stringify(one));
  return load;
}
