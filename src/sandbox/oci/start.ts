// What is made, launched and undone for one sandbox: pure, so that all of it can be read in one place.

import { constants } from "node:os";
import { join } from "node:path";
import type { SandboxId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { LaunchSpec, Make, Undo } from "#spawner/door.ts";
import type { Link } from "#network/door.ts";
import type { BuildStep, Lasting, OneOff, PoolKey } from "../door.ts";
import type { CpuLimits, Cgroups } from "./cgroups.ts";
import { ociConfig, resultPath, userId, type RootSpec } from "./config.ts";
import { engineArgv, type Engine } from "./engine.ts";
import { framesPath, gvisorArgv, gvisorPath, procFolder } from "./gvisor.ts";
import { changesIn, imageRoot, rootPathIn, undoOf, type ImageStart } from "./images.ts";
import type { Seccomp } from "./seccomp-filter.ts";
import { waiterFolder } from "./waiter.ts";

const MiB = 1024 * 1024;

/** How one sandbox is started. */
export interface Start {
  readonly pool: PoolKey;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly link: Link | null;
  readonly listen: boolean;
  readonly input: boolean;
  /** Until it is assigned. */
  readonly cpu: CpuLimits;
  readonly mounts: OneOff["mounts"];
  readonly lasting?: Lasting | undefined;
  /** Of a build: its image is nobody's yet, and what it changes is kept. */
  readonly step?: Pick<BuildStep, "image" | "keep">;
}

/** Where the files come from that a sandbox sees. */
export type Root =
  /** One folder for all sandboxes of a runtime. */
  | { readonly kind: "runtime"; readonly path: string }
  | ({ readonly kind: "image"; readonly nameserver: string | null } & ImageStart);

export interface StartPlan {
  /** Before there is a process. */
  readonly things: readonly Make[];
  readonly undo: readonly Undo[];
  readonly launch: Omit<LaunchSpec, "before">;
  readonly image: ImageStart | null;
  readonly cgroup: string;
  readonly engineLog: string;
  readonly pidFile: string;
  /** Where code is mounted to appear as /var/task. */
  readonly codeTarget: string;
  /** Where a shim that no descriptor can be passed to is told its credential: its stdin. */
  readonly credentialPath: string | null;
}

export function planStart(options: {
  readonly id: SandboxId;
  /** What its cgroups are called. */
  readonly cgroup: string;
  readonly runDir: string;
  readonly start: Start;
  readonly root: Root;
  /** The host's id of the sandbox's root. */
  readonly hostId: number;
  readonly engine: Engine;
  /** The path of runsc: it is of class gvisor; null: the engine's. */
  readonly runsc: string | null;
  readonly cgroups: Cgroups;
  readonly seccomp: Seccomp;
}): StartPlan {
  const { id, cgroup, runDir, start, root, hostId, engine, runsc, cgroups, seccomp } = options;
  const folder = join(runDir, "sandboxes", id);
  const outputFolder = join(runDir, "output", id);
  const slot = join(runDir, "slots", id);
  // gVisor's file server goes on from the folder that it was given: what is mounted over that one later, it does not see.
  const codeTarget = runsc === null ? join(slot, "task") : join(slot, "var", "task");
  const engineLog = join(folder, "engine.log");
  const pidFile = join(folder, "pid");
  const uid = hostId + (root.kind === "image" ? root.user.uid : userId);
  const tmpBytes = start.pool.tmpBytes;
  // In the slot, as the engine's user must be able to go there.
  const result = start.pool.toEnd ? join(slot, "result") : null;
  const frames = !start.listen ? null : runsc === null ? join(outputFolder, "4") : join(slot, "frames");
  const output = {
    stdout: join(outputFolder, "1"),
    stderr: join(outputFolder, "2"),
    frames,
    ...(result === null ? {} : { result }),
  };
  const input = start.input || (start.listen && runsc !== null) ? join(outputFolder, "0") : null;
  const mountPoint = (index: number): string => join(slot, `mount${index}`);
  const rootSpec: RootSpec =
    root.kind === "image"
      ? { kind: "image", path: rootPathIn(folder), user: root.user }
      : { kind: "runtime", path: root.path, codeTarget, tmpBytes: Math.min(tmpBytes, sandboxLimits.tmpBytes) };
  const address = start.link?.address ?? null;
  const pipe = runsc === null ? {} : { pipe: true as const };
  const config = ociConfig({
    root: rootSpec,
    args: start.args,
    env: start.env,
    hostId,
    networkNamespace: start.link?.namespacePath ?? null,
    cgroupsPath: cgroups.enginePath(cgroup),
    binds: [
      // An image's root has its own, written.
      ...(root.kind === "runtime" ? [{ source: join(runDir, "etc", "resolv.conf"), target: "/etc/resolv.conf" }] : []),
      ...(root.kind === "image" ? [{ source: root.waiter.folder, target: waiterFolder }] : []),
      ...start.mounts.map(({ target }, i) => ({ source: mountPoint(i), target })),
      ...(result === null ? [] : [{ source: result, target: resultPath, ...pipe }]),
      ...(frames === null || runsc === null ? [] : [{ source: frames, target: framesPath, ...pipe }]),
    ],
    // A profile is half of what is read by every engine, and sent to whoever starts it.
    seccomp: (runsc === null && engine.name === "crun" ? seccomp.program : null) ?? seccomp.profile,
    rootIsReadOnly: runsc !== null,
    codeBelow: runsc !== null,
  });
  const stateDir = join(runDir, "engine");
  const joined = runsc === null ? null : cgroups.joined(cgroup);
  const argv =
    runsc === null
      ? engineArgv(engine, {
          id,
          stateDir,
          bundle: folder,
          pidFile,
          logFile: engineLog,
          preservedFds: start.listen ? 2 : 0,
        })
      : gvisorArgv({
          path: runsc,
          id,
          cgroup,
          cgroups,
          stateDir: join(stateDir, id),
          bundle: folder,
          pidFile,
          logFile: engineLog,
          linked: start.link !== null,
        });
  return {
    credentialPath: start.input ? null : input,
    cgroup,
    engineLog,
    pidFile,
    codeTarget,
    image: root.kind === "image" ? root : null,
    things: [
      { kind: "folder", path: folder, mode: 0o711 },
      { kind: "folder", path: outputFolder, mode: 0o700 },
      // The code of an image is in it.
      { kind: "folder", path: root.kind === "image" ? slot : codeTarget, mode: 0o755 },
      { kind: "file", path: join(folder, "config.json"), text: JSON.stringify(config), mode: 0o600 },
      ...(root.kind === "image"
        ? [imageRoot({ ...root, hostId, folder, bytes: tmpBytes, address, toEnd: result !== null })]
        : []),
      ...[input, output.stdout, output.stderr, output.frames, result]
        .filter((path) => path !== null)
        .map((path) => ({ kind: "fifo" as const, path, uid })),
      ...start.mounts.flatMap(({ source }, i): Make[] => [
        { kind: "folder", path: mountPoint(i), mode: 0o755 },
        { kind: "bind", source, target: mountPoint(i), readOnly: true },
      ]),
      ...(runsc === null ? [] : [{ kind: "folder" as const, path: procFolder(folder), mode: 0o700 }]),
      ...[...cgroups.folders(cgroup), ...(joined?.folders ?? [])].map((path) => ({
        kind: "folder" as const,
        path,
        mode: 0o755,
      })),
      ...cgroups.limits(cgroup, { memoryBytes: start.pool.memoryMb * MiB, pids: sandboxLimits.pids, cpu: start.cpu }),
    ],
    undo: [
      ...(root.kind === "image" ? undoOf(folder) : [{ kind: "unmount" as const, path: codeTarget }]),
      // What is called after its sandbox nobody looks for again.
      { kind: "cgroup", paths: cgroups.leftovers(cgroup), blank: cgroup === id ? [] : cgroups.blank(cgroup) },
      { kind: "remove", path: join(runDir, "engine", id) },
      { kind: "remove", path: slot },
      { kind: "remove", path: outputFolder },
      { kind: "remove", path: folder },
    ],
    launch: {
      id,
      argv,
      // runc starts itself several times, by ways of its own.
      ...(runsc === null && engine.name === "crun" ? { sealed: true as const } : {}),
      env: runsc === null ? {} : { PATH: gvisorPath },
      cwd: folder,
      listen: start.listen && runsc === null ? join(runDir, "sockets", id) : null,
      output,
      ...(input === null ? {} : { input }),
      ...(root.kind === "image" ? { endSignal: endSignalOf(root.image.config.stopSignal) } : {}),
      signalPidFile: pidFile,
      ...(runsc === null ? {} : { ownPids: true }),
      readAtEnd: [
        engineLog,
        ...cgroups.reports(cgroup),
        ...(start.pool.toEnd ? [cgroups.cpuFile(cgroup)] : []),
        ...(runsc === null ? [] : [cgroups.pidsFile(cgroup)]),
      ],
      ...(start.step === undefined ? {} : { atEnd: start.step.keep(changesIn(folder), hostId) }),
      undo: [],
    },
  };
}

/** "SIGQUIT", "QUIT" or "3", as images say it; what is none of the kernel's is SIGTERM, as nothing is. */
export function endSignalOf(said: string | null): NodeJS.Signals {
  if (said === null) return "SIGTERM";
  const word = said.toUpperCase();
  const name = word.startsWith("SIG") ? word : `SIG${word}`;
  const number = /^[0-9]{1,2}$/.test(word) ? Number(word) : null;
  const found = Object.entries(constants.signals).find(([signal, value]) => signal === name || value === number);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the kernel's own names, from the table that they stand in
  return (found?.[0] as NodeJS.Signals | undefined) ?? "SIGTERM";
}
