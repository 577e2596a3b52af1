// The driver that runs each instance as an OCI container by crun or runc, driven directly: no daemon.

import { mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join, relative } from "node:path";
import type { Duplex } from "node:stream";
import { EbbError } from "#model/errors.ts";
import { newSandboxId, type InstanceId, type SandboxId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { Link } from "#network/door.ts";
import type { LaunchSpec, Make } from "#spawner/door.ts";
import type {
  Assignment,
  BuildStep,
  BuildStepEnd,
  Capabilities,
  Failed,
  Lasting,
  LeftInstance,
  OneOff,
  OneOffResult,
  OutputSource,
  PoolKey,
  Ready,
  SandboxDriver,
  SandboxListener,
  SandboxUsage,
  SocketReader,
} from "../door.ts";
import { Startup } from "../probe.ts";
import { lostConnection, noSandbox } from "../lost-connection.ts";
import { assignBody, codeFolder, readyProgram, RuntimeLink } from "../runtime-link.ts";
import { baseEnv, readShims, type Shims } from "../shims.ts";
import { runBuildStep } from "./build-step.ts";
import { describeCgroups, findCgroups, leftOverCpu, type Cgroups } from "./cgroups.ts";
import { firstHostId, idRanges, idRangeSize } from "./config.ts";
import { enginesHere, noEngine, Ordered, settledPauseMs, type Engine } from "./engine.ts";
import { findRunsc, Gvisor, isGvisor, shimEnv } from "./gvisor.ts";
import { imageOrder, ImageStarts, wordsOfExit } from "./images.ts";
import { cgroupParentOf, keptPlan, Leftovers } from "./leftovers.ts";
import { runOneOff } from "./one-off.ts";
import type { OciOptions } from "./options.ts";
import { proveGvisor, proveIsolation } from "./proof.ts";
import { programOrder, waitingArgs, writeOrder } from "./program.ts";
import { emptyLayer, Roots } from "./roots.ts";
import { OciSandbox, type Starting } from "./sandbox.ts";
import { compileSeccomp, type Seccomp } from "./seccomp-filter.ts";
import { gvisorProfile, seccompProfile } from "./seccomp.ts";
import { planStart, type Root, type Start } from "./start.ts";

const architecture = process.arch === "arm64" ? "arm64" : "x64";

export function createOciDriver(options: OciOptions): OciDriver {
  return new OciDriver(options);
}

export class OciDriver implements SandboxDriver {
  readonly name = "oci";
  readonly #options: OciOptions;
  readonly #ordered = new Ordered();
  readonly #sandboxes = new Map<SandboxId, OciSandbox>();
  readonly #leftovers: Leftovers;
  /** Address of a link to the credential of the instance behind it. */
  readonly #credentials = new Map<string, string>();
  readonly #roots: Roots;
  readonly #images: ImageStarts;
  readonly #shims: Shims;
  #seccomp: Seccomp = { profile: seccompProfile(architecture), program: null };
  readonly #gvisorSeccomp: Seccomp = { profile: gvisorProfile(architecture), program: null };
  #cgroups: Cgroups | null = null;
  #engine: Engine | null = null;
  readonly gvisor = new Gvisor(() => proveGvisor(this, this.#options.dataDir, this.#gvisorSeccomp));

  constructor(options: OciOptions) {
    this.#options = options;
    const { dataDir, allocator, spawner, node, runtimes } = options;
    this.#shims = readShims(runtimes);
    this.#leftovers = new Leftovers(options.supervisor ?? null);
    const { runDir } = allocator;
    this.#images = new ImageStarts({ imageOf: options.imageOf ?? (() => null), spawner, runDir, dataDir });
    this.#roots = new Roots({
      folder: join(dataDir, "roots"),
      runDir,
      spawner,
      node,
      shims: runtimes,
    });
  }

  capabilities(): Capabilities {
    return {
      isolation: "container",
      listener: "fd",
      pause: true,
      snapshot: false,
      egress: this.#options.network ? ["none", "internet", "list"] : ["none"],
      cpuStrict: true,
      usage: "exact",
    };
  }

  /** The engine in use; for `doctor` and tests. */
  get engine(): Engine {
    if (!this.#engine) throw new EbbError("internal", "The oci driver is not started.");
    return this.#engine;
  }

  async start(): Promise<void> {
    const { allocator, spawner, network, memoryBytes, engines, progress } = this.#options;
    const { runDir } = allocator;
    const cgroups = findCgroups(cgroupParentOf(runDir));
    this.#cgroups = cgroups;
    for (const name of ["sandboxes", "slots", "etc"]) await mkdir(join(runDir, name), { recursive: true, mode: 0o711 });
    await writeFile(join(runDir, "etc", "resolv.conf"), network ? `nameserver ${network.gateway}\n` : "", {
      mode: 0o644,
    });
    this.#seccomp = compileSeccomp(this.#seccomp.profile, join(runDir, "seccomp"));
    await this.#roots.start();
    await spawner.share({ path: join(runDir, "slots"), owner: "ground" });
    await spawner.cgroup({ ...cgroups.parent(memoryBytes), owner: "ground" });
    const tried: Array<{ readonly name: string; readonly problem: string }> = [];
    for (const engine of await enginesHere(engines)) {
      this.#engine = engine;
      const problem = await proveIsolation(this, engine, {
        cacheFile: join(this.#options.dataDir, "isolation.json"),
        cgroups: describeCgroups(),
        seccomp: this.#seccomp,
      });
      if (problem !== null) {
        tried.push({ name: engine.name, problem });
        continue;
      }
      for (const { name, problem: why } of tried)
        progress?.(`${name} cannot isolate here, ${engine.name} serves: ${why}`);
      return;
    }
    this.#engine = null;
    throw noEngine(tried.map(({ name, problem }) => `${name}: ${problem}`));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#sandboxes.values()].map((sandbox) => sandbox.stop(0)));
  }

  async prepare(pool: PoolKey, listener: SandboxListener, lasting?: Lasting): Promise<SandboxId> {
    const startedMs = performance.now();
    if (isGvisor(pool)) await this.gvisor.path();
    const toEnd = pool.toEnd === true;
    const program = "image" in pool || pool.runtime === "custom" || toEnd;
    const args = await this.#argsOf(pool);
    const shimEnvironment = isGvisor(pool) && !program ? shimEnv : {};
    const env = "image" in pool ? {} : { ...baseEnv, ...shimEnvironment };
    const link = (await this.#options.network?.take(pool.egress, lasting?.of)) ?? null;
    if ((program || isGvisor(pool)) && link === null && !toEnd)
      throw new EbbError("internal", "What listens itself needs a network link, which this driver has not.");
    const linkMs = performance.now() - startedMs;
    const sandbox = await this.#make(
      { pool, args, env, link, listen: !program, input: program, cpu: leftOverCpu, mounts: [], lasting },
      listener,
    );
    sandbox.phases = { link: linkMs, make: performance.now() - startedMs - linkMs };
    // An assign that follows at once brings the code along; without one it starts empty.
    sandbox.launchSoon(() => {
      if (program || sandbox.runtimeLink !== null || sandbox.assigned) return;
      this.#control(sandbox).open();
      sandbox.expectCall(false);
    });
    return sandbox.id;
  }

  async #argsOf(pool: PoolKey): Promise<readonly string[]> {
    if ("image" in pool) return (await this.#images.waiter()).argv;
    return pool.runtime === "custom" || pool.toEnd ? waitingArgs : this.#shims.argvOf(pool.runtime, pool.memoryMb);
  }

  async #rootOf(id: SandboxId, { pool, step }: Start, hostId: number): Promise<Root> {
    if (!("image" in pool)) {
      const path = await (pool.toEnd ? this.#roots.withTools(pool.runtime) : this.#roots.of(pool.runtime));
      return { kind: "runtime", path };
    }
    const nameserver = this.#options.network?.gateway ?? null;
    return {
      kind: "image",
      nameserver,
      ...(await this.#images.of(step?.image ?? pool.image, { id, hostId }, pool.toEnd === true)),
    };
  }

  /** Starts a sandbox that is nobody's instance. */
  async begin(start: Start, capture: (output: LaunchSpec["output"]) => () => void): Promise<OciSandbox> {
    const sandbox = await this.#make(start, null);
    const captured = capture(sandbox.fifos);
    try {
      await sandbox.launch([]);
    } finally {
      captured();
    }
    return sandbox;
  }

  /** Everything but the process. The link is given back when it is gone, or here on failure. */
  async #make(start: Start, listener: SandboxListener | null): Promise<OciSandbox> {
    const { allocator, network, supervisor } = this.#options;
    const { runDir } = allocator;
    const lasting = supervisor ? start.lasting : undefined;
    const spawner = lasting ? supervisor! : this.#options.spawner;
    const [id, gvisor] = [newSandboxId(), isGvisor(start.pool)];
    let range: number | null = null;
    // gVisor takes a link's addresses for its own.
    const release = (left: boolean): void =>
      this.#release(id, range, start.link, left, gvisor ? undefined : lasting?.of);
    try {
      range = allocator.take("ids", idRanges);
      const hostId = firstHostId + range * idRangeSize;
      const planned = planStart({
        id,
        // One after the other finds what the last one of its range has left: mostly there is one.
        cgroup: lasting ? `run-${range}` : id,
        runDir,
        start,
        root: await this.#rootOf(id, start, hostId),
        hostId,
        engine: this.engine,
        runsc: gvisor ? await findRunsc() : null,
        cgroups: this.#cgroups!,
        seccomp: gvisor ? this.#gvisorSeccomp : this.#seccomp,
      });
      const plan = lasting ? keptPlan(planned, lasting, { runDir, range, start }, network) : planned;
      const kept = lasting ? this.#leftovers.keptOf(lasting.instance) : null;
      const sandbox = new OciSandbox({ id, start, spawner, cgroups: this.#cgroups!, listener, plan, release, kept });
      this.#sandboxes.set(id, sandbox);
      // What is kept is made in one go with its launch: nothing of it is wanted before.
      if (kept === null) await spawner.make({ owner: id, things: plan.things, undo: plan.undo });
      return sandbox;
    } catch (error) {
      release(
        await spawner.unmake(id).then(
          () => false,
          () => true,
        ),
      );
      throw error;
    }
  }

  readonly #release = (id: SandboxId, range: number | null, link: Link | null, left = false, as?: string): void => {
    this.#sandboxes.delete(id);
    // Whoever had them next could reach what is left. The daemon's end undoes it, or the next start, and frees them behind it.
    if (range !== null && !left) this.#options.allocator.free("ids", range);
    if (!link) return;
    this.#credentials.delete(link.address);
    this.#options.network?.giveBack(link, left ? undefined : as);
  };

  readonly keep = async (id: SandboxId): Promise<void> => this.#sandboxes.get(id)?.begun();
  readonly left = (): readonly LeftInstance[] => this.#leftovers.instances;
  readonly forget = (instance: InstanceId): Promise<void> => this.#leftovers.forget(instance, this.#release);

  async adopt(
    instance: InstanceId,
    assignment: Pick<Assignment, "project" | "workload" | "egress" | "credential">,
    listener: SandboxListener,
  ): Promise<SandboxId> {
    const taken = this.#leftovers.take(instance, this.#release, listener);
    const { sandbox, alive } = taken;
    this.#sandboxes.set(sandbox.id, sandbox);
    if (alive && sandbox.link) {
      this.#credentials.set(sandbox.link.address, assignment.credential);
      await this.#options.network?.admit(sandbox.link, assignment).catch(async (error: unknown) => {
        taken.follow();
        await sandbox.stop(0);
        throw error;
      });
    }
    // Whoever adopts it looks at its output first.
    setImmediate(() => taken.follow());
    return sandbox.id;
  }

  async assign(id: SandboxId, assignment: Assignment): Promise<Ready | Failed> {
    const ahead = assignment.takeWithinMs !== null;
    const known = this.#sandboxes.get(id);
    if (known === undefined && ahead) return untouched("It has ended.");
    const sandbox = this.#get(id);
    sandbox.assigned = true;
    if (sandbox.link) this.#credentials.set(sandbox.link.address, assignment.credential);
    const startedMs = performance.now();
    let launchedMs = startedMs;
    let given = false;
    /** No code can have run. */
    const isUntouched = (): boolean => !given || sandbox.runtimeLink?.taken === false;
    const { programStartMs = sandboxLimits.programStartMs } = this.#options;
    const assigned = sandbox.within(sandbox.image ? programStartMs : sandboxLimits.startMs, async (starting) => {
      // First: what follows is done while the spawner is at it.
      const limits = this.#cgroups!.cpuLimits(sandbox.cgroup, assignment);
      const giving = sandbox.give(limits, this.#code(sandbox, assignment), starting);
      const body = sandbox.orderPath === null ? assignBody(assignment, codeFolder, sandbox.pool.memoryMb) : "";
      await Promise.all([giving, sandbox.link && this.#options.network?.admit(sandbox.link, assignment)]);
      launchedMs = performance.now();
      if (sandbox.orderPath !== null)
        return this.#becomeProgram(sandbox, assignment, starting, () => void (given = true));
      if (sandbox.shim !== null) await sandbox.shimListens(starting.signal());
      given = true;
      return this.#load(sandbox, assignment, body);
    });
    const answer = await assigned.catch((error: unknown) => {
      if (!ahead || !isUntouched()) throw error;
      return untouched(error instanceof Error ? error.message : String(error));
    });
    // How a program that runs to its end has ended, its exit tells.
    if (!answer.ok && assignment.probe === null && given) return readyProgram;
    if (!answer.ok) {
      void sandbox.stop(0);
      return isUntouched() ? { ...answer, untouched: true } : answer;
    }
    const loadCache = assignment.makeLoadCache
      ? await sandbox.runtimeLink?.loadCache(performance.now() - startedMs)
      : null;
    // What was started ahead has booted on nobody's time.
    const { bootMs = 0, ...loading } = answer.phases;
    const inside = ahead ? loading : { bootMs, ...loading };
    const insideMs = Object.values(inside).reduce((sum, ms) => sum + ms, 0);
    const boot = Math.max(0, performance.now() - launchedMs - insideMs);
    const made = ahead ? {} : sandbox.phases;
    return {
      ...answer,
      ...(loadCache ? { loadCache } : {}),
      phases: { ...made, launch: launchedMs - startedMs, boot, ...inside },
    };
  }

  /** What makes the code visible. */
  #code(sandbox: OciSandbox, { codeDigest, loadCache }: Assignment): Make[] {
    if (codeDigest === null) return [];
    const { codeRoot, folderOf, loadCacheOf, dataDir } = this.#options;
    const source = folderOf(codeDigest);
    const layers = loadCache === null ? [source, join(dataDir, "roots", emptyLayer)] : [loadCacheOf(loadCache), source];
    const lower = layers.map((path) => relative(codeRoot, path));
    return [{ kind: "overlay", base: codeRoot, lower, target: sandbox.codeTarget, source }];
  }

  #load(sandbox: OciSandbox, assignment: Assignment, body: string): Promise<Ready | Failed | null> {
    const link = sandbox.runtimeLink ?? this.#control(sandbox);
    const answer = link.assign(body, assignment.takeWithinMs, assignment.makeLoadCache);
    if (assignment.check) return answer;
    // While it loads, where it was not started ahead.
    sandbox.expectCall(true);
    return answer;
  }

  #control(sandbox: OciSandbox): RuntimeLink {
    return (sandbox.runtimeLink = new RuntimeLink({
      connect: () => this.connect(sandbox.id),
      done: (invocation) => sandbox.listener?.done(invocation),
    }));
  }

  async #becomeProgram(
    sandbox: OciSandbox,
    assignment: Assignment,
    starting: Starting,
    giving: () => void,
  ): Promise<Ready | Failed | null> {
    const { port, probe } = assignment;
    const { image } = sandbox;
    const order = image === null ? programOrder(assignment, codeFolder) : imageOrder(assignment, image);
    const begin = async (): Promise<void> => {
      await writeOrder(sandbox.orderPath!, order, giving);
      // Until the engine is through nobody listens either, and to look at that costs a twentieth of a connection.
      const look = (pauseMs: number): Promise<void> => sandbox.isProgram(pauseMs, starting);
      await (probe === null ? this.#ordered.settle(look) : look(settledPauseMs.waitedFor));
    };
    if (probe === null) {
      await begin();
      return readyProgram;
    }
    const startup = new Startup({ address: sandbox.link!.address, port, probe });
    sandbox.programPort = port;
    if (image !== null)
      sandbox.programWords = {
        late: (withinMs) => startup.words(withinMs),
        exited: (code) => wordsOfExit(code, assignment, image),
      };
    await begin();
    if (!(await startup.serves(starting.signal()))) return null;
    return readyProgram;
  }

  connect(id: SandboxId, reader?: SocketReader): Duplex {
    const sandbox = this.#sandboxes.get(id);
    if (sandbox === undefined) return lostConnection(id);
    const early = sandbox.takeEarly(reader);
    if (early !== null) return early;
    const onread = reader === undefined ? {} : { onread: reader };
    if (sandbox.programPort === 0) return sandbox.toShim(onread);
    return sandbox.leftLine(
      connect({ host: sandbox.link!.address, port: sandbox.programPort, noDelay: true, ...onread }),
    );
  }

  output(id: SandboxId): OutputSource {
    const { fifos, kept } = this.#get(id);
    return kept ? { kind: "kept", folder: kept.folder } : { kind: "fifo", ...fifos };
  }

  async stopSandbox(id: SandboxId, graceMs: number): Promise<void> {
    await this.#sandboxes.get(id)?.stop(graceMs);
  }

  readonly pause = async (id: SandboxId): Promise<void> => this.#get(id).freeze(true);
  readonly resume = async (id: SandboxId): Promise<void> => this.#get(id).freeze(false);

  usage(id: SandboxId): SandboxUsage {
    return this.#sandboxes.get(id)?.usage() ?? { cpuNs: null, memoryPeakBytes: null };
  }

  credentialAt(address: string): string | null {
    return this.#credentials.get(address) ?? null;
  }

  run(spec: OneOff): Promise<OneOffResult> {
    return runOneOff(this, spec);
  }

  async build(step: BuildStep): Promise<BuildStepEnd> {
    const { network } = this.#options;
    if (network === null) throw new EbbError("internal", "A build needs a network link, which this driver has not.");
    return runBuildStep(this, this.#images, network, step);
  }

  #get(id: SandboxId): OciSandbox {
    return this.#sandboxes.get(id) ?? noSandbox(id);
  }

  /** Builds (or finds) the roots of these runtimes ahead of their first sandbox. */
  async warm(runtimes: readonly RuntimeName[]): Promise<void> {
    for (const runtime of runtimes) await this.#roots.of(runtime);
  }

  /** The same for the programs that a job of this runtime may be. */
  async warmTools(runtime: RuntimeName): Promise<void> {
    await this.#roots.withTools(runtime);
  }

  /** Forgets the proof of isolation, so that the next start proves it again. */
  static async forgetProof(dataDir: string): Promise<void> {
    await rm(join(dataDir, "isolation.json"), { force: true });
  }
}

function untouched(message: string): Failed {
  return { ok: false, untouched: true, failure: { fault: "platform", message, stack: null, hint: null } };
}
