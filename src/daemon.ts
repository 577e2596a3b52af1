// The composition root: builds the rooms, hands each what it needs, starts them in order and stops them in reverse. No logic.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { getHeapStatistics } from "node:v8";
import { createAccess } from "#access/access.ts";
import { createActivator } from "#activator/activator.ts";
import { createApi } from "#api/api.ts";
import { recogniseFolder } from "#app/list-folder.ts";
import { readApp } from "#app/read.ts";
import { settle } from "#app/settings.ts";
import { settleContainer } from "#app/container-settings.ts";
import { settleImageJob, settleJob } from "#app/settle-job.ts";
import { createAutoscaler } from "#autoscaler/autoscaler.ts";
import { createBuilds } from "#builds/builds.ts";
import { createInterpreters } from "#builds/interpreters.ts";
import { createControl } from "#control/control.ts";
import { runMemoryMb, sandboxMemoryBytes, startsAtOnce } from "#fleet/decide.ts";
import { createFleet } from "#fleet/fleet.ts";
import { createGateway } from "#gateway/gateway.ts";
import { giveBack } from "#lib/give-back.ts";
import { createIdleCpus } from "#lib/idle-cpus.ts";
import { createImages } from "#images/images.ts";
import { createJobs } from "#jobs/jobs.ts";
import { createMeter } from "#metering/meter.ts";
import type { Identity } from "#model/access.ts";
import { systemClock as clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, type InstanceId } from "#model/ids.ts";
import { lifecycle, machineLimits } from "#model/limits.ts";
import {
  isOfImage,
  servingOf,
  type JobRevision,
  type Revision,
  type ServingRevision,
  type WorkloadKey,
} from "#model/workload.ts";
import { createNetwork } from "#network/network.ts";
import { heldBy } from "#sandbox/oci/leftovers.ts";
import { createOciDriver } from "#sandbox/oci/oci.ts";
import { createProcessDriver } from "#sandbox/process/process.ts";
import { createAllocator } from "#spawner/allocator.ts";
import { createSpawner } from "#spawner/spawner.ts";
import { createSupervisor } from "#spawner/supervised.ts";
import { createStore } from "#store/client.ts";
import { createTelemetry } from "#telemetry/client.ts";
import { readResolvers, readSearchDomains, type DaemonConfig } from "./config.ts";
import { readKnownToken, writeCredentials } from "./daemon/credentials.ts";
import { letHeapsGrow } from "./daemon/heap.ts";
import { bindImageFolder } from "./daemon/image-folder.ts";
import { createDaemonLog } from "./daemon/log.ts";
import { measureLoopDelay } from "./daemon/loop-delay.ts";
import { prepare } from "./daemon/prepare.ts";
import { createRest } from "./daemon/rest.ts";
import { createStages, type Stages } from "./daemon/stages.ts";
import { findToolbox } from "./daemon/toolbox.ts";
import { createUrls } from "./daemon/urls.ts";

export interface Daemon {
  /** What it listens on, as `ready` prints it. */
  readonly url: string;
  readonly token: string;
  /** The first start on this data directory. */
  readonly fresh: boolean;
  stop(): Promise<void>;
}

/** Rejects with an EbbError (one sentence for the operator) when it cannot start; what had started is stopped again. */
export async function startDaemon(config: DaemonConfig, fatal: (reason: string) => void): Promise<Daemon> {
  prepare(config);
  const stages = createStages();
  try {
    return await start(config, fatal, stages);
  } catch (error) {
    await stages.stop();
    throw error;
  }
}

async function start(config: DaemonConfig, fatal: (reason: string) => void, stages: Stages): Promise<Daemon> {
  const directory = config.dataDirectory;
  const isolated = config.isolation === "container";

  // --- what remembers, and what listens. The store first: its lock makes this the one daemon of the data directory.
  const telemetry = createTelemetry({
    directory,
    clock,
    fatal,
    runningIn: (instance) => activator.runningIn(instance),
  });
  const log = createDaemonLog();
  // This thread in two short pauses: the first leaves pages half empty that the second clears.
  const restSteps: Array<() => unknown> = [giveBack, giveBack, () => telemetry.rest()];
  const rest = createRest({
    clock,
    allocatedBytes: () => getHeapStatistics().total_allocated_bytes,
    residentBytes: () => process.memoryUsage.rss(),
    steps: restSteps,
  });
  const tell: Tell = (fact) => {
    telemetry.tell(fact);
    log(fact);
    rest(fact);
  };
  const progress = (what: string): void => console.error(`ebb: ${what}`);
  const defect = (where: string, error: unknown): void => tell({ kind: "defect", errorId: newErrorId(), where, error });
  const { store, mirror, journal, rest: restStore } = createStore({ directory, clock, tell, fatal });
  await stages.begin(store);
  restSteps.push(restStore);

  // --- what makes sandboxes. The spawner ends what earlier daemons left before anything else begins: nothing runs on unbilled.
  // Runs outlive an ebb that is killed: where they do, this one goes on in the run directory that they stand in.
  const problem = (words: string): void => console.error(`ebb supervisor: ${words}`);
  const supervisor = isolated
    ? createSupervisor({ node: config.node, directory: join(directory, "runs"), clock, problem })
    : null;
  const runDir = (await supervisor?.find()) ?? null;
  const held = heldBy(supervisor?.left ?? []);
  const allocator = createAllocator(
    isolated
      ? { inherited: runDir === null ? null : { runDir, numbers: held.numbers } }
      : { root: join(tmpdir(), `ebb-${process.getuid?.() ?? 0}`) },
  );
  const spawner = createSpawner({
    node: config.node,
    runDir: allocator.runDir,
    inherits: runDir !== null,
    died: (reason) => tell({ kind: "worker_restarted", worker: "spawner", reason }),
    gaveUp: fatal,
  });
  await stages.begin(telemetry, spawner);
  supervisor?.begin({ runDir: allocator.runDir, spawner });
  stages.owe(async () => supervisor?.close());
  restSteps.push(() => spawner.rest());
  /** Which instance is behind a link's address, by the credential that it was assigned. */
  const identifyLink = (address: string): Identity | null => {
    const credential = driver.credentialAt(address);
    return credential === null ? null : access.byCredential(credential);
  };
  const projectAt = (address: string): string | null => identifyLink(address)?.project ?? null;
  const noPermits: readonly string[] = [];
  const network = isolated
    ? createNetwork({
        spawner,
        allocator,
        clock,
        tell,
        resolvers: readResolvers,
        searchDomains: readSearchDomains,
        projectAt,
        permitsOf: (project) => mirror.project(project)?.egressPermit ?? noPermits,
        bytesPerSecond: config.egressBytesPerSecond,
        left: held.links,
        outlived: () => supervisor?.holds ?? false,
      })
    : null;

  // --- who may, and what it costs
  const access = createAccess({ mirror, keyFile: join(directory, "secrets.key") });
  access.start();
  const resumes = (): readonly InstanceId[] =>
    (supervisor?.left ?? []).flatMap(({ name, begunMs }) => (begunMs === null ? [] : [name]));
  const meter = createMeter({ directory, link: journal, mirror, clock, tell, resumes });

  // --- from code to instances
  const builds = createBuilds({
    directory,
    run: (spec) => fleet.run(spec),
    spawner,
    toolbox: findToolbox(config.installation),
    tell,
    clock,
  });
  const interpreters = createInterpreters({
    directory: join(directory, "interpreters"),
    node: config.node,
    path: config.path,
    npmEnvironment: config.npmEnvironment,
    spawner,
    progress,
  });
  const images = isolated
    ? createImages({
        directory: allocator.runDir,
        node: config.node,
        spawner,
        allocator,
        clock,
        registries: config.registries,
        resolvers: readResolvers,
        runStep: (step) => fleet.build(step),
        runMemoryMb: runMemoryMb(config.machineMemoryBytes),
      })
    : null;
  const folderOf = (digest: string): string => builds.folderOf(digest);
  const runtimes = join(config.installation, "runtimes");
  const memoryBytes = sandboxMemoryBytes(config.machineMemoryBytes);
  const concurrentStarts = startsAtOnce(config.machineCores);
  const codeRoot = join(directory, "code");
  const oci = isolated
    ? createOciDriver({
        spawner,
        allocator,
        network,
        supervisor,
        dataDir: directory,
        codeRoot,
        imageOf: (digest) => images?.get(digest) ?? null,
        folderOf,
        loadCacheOf: (name) => builds.loadCaches.folderOf(name),
        node: interpreters.node,
        runtimes,
        memoryBytes,
        progress,
      })
    : null;
  const driver =
    oci ?? createProcessDriver({ spawner, runDir: allocator.runDir, folderOf, node: interpreters.node, runtimes });
  const internal = { url: "" };
  const fleet = createFleet({
    driver,
    user: () => activator,
    access,
    telemetry,
    loadCaches: builds.loadCaches,
    secrets: { secret: (project, name) => mirror.secret(project, name), open: (secret) => access.open(secret) },
    quotas: (project) => mirror.project(project)?.quotas ?? null,
    internalUrl: (credential) => (isolated ? "http://ebb.internal" : `${internal.url}/_/${credential}`),
    memoryBytes: config.machineMemoryBytes,
    concurrentStarts,
    poolBytes: config.poolBytes,
    idleCpus: createIdleCpus(config.machineCores),
    pauseAfterMs: config.pauseAfterMs,
    clock,
    tell,
  });

  // --- the path of a call
  // One function has all turns but the last.
  const machine = { concurrentStarts: concurrentStarts - 1, typicalStartMs: machineLimits.typicalStartMs };
  const scaling = { machine, cpus: config.machineCores, keepAlive: config.keepAlive };
  const autoscaler = createAutoscaler({ fleet, clock, tell, ...scaling });
  const activator = createActivator({
    fleet,
    autoscaler,
    meter,
    current: (project, workload) => serving(mirror.workload(project, workload)?.revision ?? null),
    markActive: (instance, invocation) => telemetry.active(instance, invocation),
    clock,
    tell,
  });

  // --- what people talk to
  const urls = createUrls(config.baseUrl);
  const urlsOf = (key: WorkloadKey): ReturnType<typeof urls.of> => urls.of(key);
  let ending = false;
  const warmTools = (revision: JobRevision): void => {
    if (isOfImage(revision)) return;
    oci?.warmTools(revision.settings.runtime).catch((error: unknown) => ending || defect("sandbox.warm", error));
  };
  const changed = (key: WorkloadKey, deployed: Revision | null, reason: string): void => {
    const revision = serving(deployed);
    autoscaler.changed(key.project, key.workload, revision);
    activator.changed(key, revision);
    fleet.retire(key, revision, reason);
    if (deployed === null) jobs.removed(key);
    else if (deployed.kind === "job") warmTools(deployed);
  };
  const replaced = (key: WorkloadKey, revision: Revision, reason: string): void => {
    fleet.retire(key, null, reason);
    autoscaler.changed(key.project, key.workload, serving(revision));
  };
  const jobs = createJobs({
    store,
    fleet,
    meter,
    quotas: (project) => mirror.project(project)?.quotas ?? null,
    isThere: ({ project, workload }) => mirror.workload(project, workload) !== null,
    directory: join(directory, "results"),
    clock,
    tell,
  });
  const control = createControl({
    store,
    mirror,
    access,
    builds,
    images,
    interpreters,
    fleet,
    jobs,
    app: { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob },
    isolation: isolated ? "container" : "process",
    gvisorProblem: async () => oci?.gvisor.problem() ?? null,
    urlsOf,
    changed,
    replaced,
    clock,
    tell,
  });
  const version = config.ebbVersion;
  const rooms = { control, access, mirror, store, telemetry, fleet, autoscaler, activator, jobs };
  if (images) await bindImageFolder({ directory, runDir: allocator.runDir, spawner });
  // Put together, which takes a while, while the network's commands run.
  const [api] = await Promise.all([
    createApi({ ...rooms, urlsOf, measureLoopDelay, version, clock, tell }),
    stages.begin(...(network ? [network] : []), meter, builds, ...(images ? [images] : [])),
  ]);
  const gateway = createGateway({
    access,
    activator,
    mirror,
    platform: api.handle,
    identifyLink,
    baseUrl: config.baseUrl,
    trustProxy: config.trustProxy,
    version,
    openFilesMax: config.openFilesMax,
    clock,
    tell,
  });

  // --- in order; the stops are owed in reverse: nobody new comes in, what runs has its time to end, then all goes.
  await stages.begin({ start: () => fleet.start(), stop: () => fleet.stop(0) });
  mirror.onChange(() => fleet.quotasChanged());
  mirror.onChange(() => network?.permitsChanged());
  autoscaler.start();
  stages.owe(async () => autoscaler.stop());
  const fresh = readKnownToken(directory) === null;
  const token = await control.bootstrap(readKnownToken(directory));
  stages.owe(async () => control.stop());
  stages.owe(() => api.stop());
  stages.owe(() => gateway.close(lifecycle.closeMs));
  const inner = await gateway.listenInternal(network?.gateway ?? "127.0.0.1", network?.internalPort ?? 0);
  internal.url = `http://${inner.host}:${inner.port}`;
  const listening = await gateway.listen(config.listenHost, config.listenPort);
  stages.owe(async () => {
    // What is idle goes while the rest still runs: at the end of the drain there is less to take down.
    autoscaler.drain();
    await Promise.all([activator.drain(lifecycle.drainMs), jobs.stop()]);
    // Before the connections are closed: what is cut off ends with its instance, and not for the loss of its client.
    await fleet.stop(0);
  });
  // What was running when an earlier ebb ended goes on, where the supervisor has kept it; of the rest nothing is left.
  await jobs.start();
  // The first use of a runtime assembles its root, which takes a while: ahead of the first deploy where it can.
  stages.owe(async () => void (ending = true));
  // Cut off by a stop it is nothing to tell of.
  oci?.warm(["node26"]).catch((error: unknown) => ending || defect("sandbox.warm", error));
  for (const { revision } of mirror.workloads()) {
    autoscaler.changed(revision.project, revision.workload, serving(revision));
    if (revision.kind === "job") warmTools(revision);
  }

  letHeapsGrow();
  const url = urls.listening(listening.host, listening.port);
  writeCredentials(directory, { url, token }, config.owner);
  return { url, token, fresh, stop: () => stages.stop() };
}

function serving(revision: Revision | null): ServingRevision | null {
  return revision && servingOf(revision);
}
