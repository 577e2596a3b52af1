// Sandboxes that live on when ebb dies: what the next daemon must know of them, and how it has them again.

import { basename, join } from "node:path";
import { EbbError } from "#model/errors.ts";
import type { InstanceId, SandboxId } from "#model/ids.ts";
import type { LeftLink, Link, Network } from "#network/door.ts";
import type { Kept, Left, Supervisor } from "#spawner/door.ts";
import type { Lasting, LeftInstance, SandboxListener } from "../door.ts";
import { findCgroups } from "./cgroups.ts";
import { OciSandbox, type KeptSandbox } from "./sandbox.ts";
import type { Start, StartPlan } from "./start.ts";

/** JSON, written when it is launched. */
export interface LeftNote {
  readonly runDir: string;
  readonly range: number;
  readonly start: Start;
  readonly left: LeftLink | null;
  readonly plan: Pick<StartPlan, "launch" | "cgroup" | "engineLog" | "pidFile" | "codeTarget">;
}

export function cgroupParentOf(runDir: string): string {
  return `ebb-${basename(runDir)}`;
}

export function keptPlan(
  plan: StartPlan,
  lasting: Lasting,
  of: Omit<LeftNote, "plan" | "left">,
  network: Partial<Pick<Network, "leave">> | null,
): StartPlan {
  const { launch, cgroup, engineLog, pidFile, codeTarget } = plan;
  const { link } = of.start;
  const left = link === null ? null : network!.leave!(link);
  const note: LeftNote = { ...of, left, plan: { launch, cgroup, engineLog, pidFile, codeTarget } };
  const { instance: name, timeoutMs: endsMs, graceMs, resultBytes } = lasting;
  const kept: Kept = { name, note, endsMs, graceMs, resultBytes };
  // gVisor's file server reads each pipe that it serves.
  return { ...plan, launch: { ...launch, kept: launch.ownPids ? { ...kept, killedAtBound: true } : kept } };
}

/** The numbers and links that are theirs who live on: nobody else may be given them. */
export function heldBy(left: readonly Left[]): {
  readonly numbers: { readonly ids: readonly number[]; readonly subnets: readonly number[] };
  readonly links: readonly LeftLink[];
} {
  const alive = left.filter(({ end }) => end === null).map(noteOf);
  const links = alive.flatMap((note) => note.left ?? []);
  return {
    numbers: { ids: alive.map(({ range }) => range), subnets: links.map(({ subnet }) => subnet) },
    links,
  };
}

/** Written by this very driver, in a folder of root's. */
function noteOf({ note }: Left): LeftNote {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
  return note as LeftNote;
}

type Release = (id: SandboxId, range: number | null, link: Link | null, left?: boolean) => void;

export class Leftovers {
  readonly #supervisor: Supervisor | null;
  readonly #left = new Map<InstanceId, Left>();

  constructor(supervisor: Supervisor | null) {
    this.#supervisor = supervisor;
    for (const left of supervisor?.left ?? []) this.#left.set(left.name, left);
  }

  get instances(): readonly LeftInstance[] {
    return [...this.#left.values()].map(({ name, begunMs, end }) => ({ instance: name, begunMs, alive: end === null }));
  }

  keptOf(instance: InstanceId, bootEnd = true): KeptSandbox {
    const supervisor = this.#supervisor!;
    const folder = supervisor.folderOf(instance);
    return {
      folder,
      begun: (sandbox) => supervisor.begun(sandbox),
      exit: () => {
        const end = supervisor.endOf(instance);
        if (end === null) return null;
        const { resultBytes, resultTooLarge, endedUs, expired } = end;
        const result = resultBytes === null ? null : join(folder, "result");
        return { result, resultBytes, resultTooLarge, endedUs: bootEnd ? endedUs : null, expired };
      },
    };
  }

  /** Once. `follow`: its end may be told from here on. */
  take(
    instance: InstanceId,
    release: Release,
    listener: SandboxListener | null,
  ): { readonly sandbox: OciSandbox; readonly alive: boolean; readonly follow: () => void } {
    const left = this.#left.get(instance);
    if (!left) throw new EbbError("internal", `${instance} was not left`);
    this.#left.delete(instance);
    const { runDir, range, start, plan } = noteOf(left);
    const { end } = left;
    const id = left.id;
    const sandbox = new OciSandbox({
      id,
      start,
      spawner: this.#supervisor!,
      cgroups: findCgroups(cgroupParentOf(runDir)),
      listener,
      plan: { ...plan, things: [], undo: [], image: null, credentialPath: null },
      // What has ended holds nothing any more.
      release: (left) => (end === null ? release(id, range, start.link, left) : release(id, null, null)),
      kept: this.keptOf(instance, end === null || end.bootId === this.#supervisor!.bootId),
    });
    return { sandbox, alive: end === null, follow: () => sandbox.adopted(end?.how ?? null) };
  }

  async forget(instance: InstanceId, release: Release): Promise<void> {
    if (this.#left.has(instance)) {
      const { sandbox, follow } = this.take(instance, release, null);
      follow();
      await sandbox.stop(0);
    }
    await this.#supervisor?.forget(instance);
  }
}
