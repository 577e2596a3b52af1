// Holds still the instances in which nothing has run for a while, and lets them go on when something is handed to them.

import type { Cancel, Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId } from "#model/ids.ts";
import type { SandboxDriver } from "#sandbox/door.ts";
import { decidePauses } from "./decide.ts";
import type { Member } from "./member.ts";

export interface PausingOptions {
  readonly driver: Pick<SandboxDriver, "pause" | "resume" | "capabilities">;
  readonly clock: Clock;
  readonly tell: Tell;
  /** null: none is paused. */
  readonly afterMs: number | null;
  /** It cannot be let go on: what is handed to it would wait for ever. */
  readonly stuck: (member: Member) => void;
}

export class Pausing {
  readonly #options: PausingOptions;
  readonly #afterMs: number | null;
  /** Those in which nothing runs and which are not paused, the longest idle first. */
  readonly #idle = new Set<Member>();
  #timer: Cancel | null = null;

  constructor(options: PausingOptions) {
    this.#options = options;
    this.#afterMs = options.driver.capabilities().pause ? options.afterMs : null;
  }

  /** Nothing runs in it. Told after every invocation: a timer that is too early only looks, and one for each would cost more. */
  idle(member: Member): void {
    // What `min` holds is paid for while it is idle: its work between calls goes on.
    if (this.#afterMs === null || member.stage !== "ready" || member.revision.settings.min > 0) return;
    member.idleSinceUs = this.#options.clock.monotonicUs();
    this.#idle.add(member);
    if (this.#timer === null) this.#look(member.idleSinceUs + this.#afterMs * 1_000);
  }

  /** Something is about to be handed to it. */
  busy(member: Member): void {
    this.#idle.delete(member);
    if (!member.paused) return;
    member.paused = false;
    const { driver, stuck, tell } = this.#options;
    const { project, workload } = member.revision;
    driver.resume(member.sandbox!).catch((error: unknown) => {
      if (member.stage !== "ready") return;
      tell({ kind: "defect", errorId: newErrorId(), where: "fleet.resume", error });
      stuck(member);
    });
    tell({ kind: "instance_resumed", instance: member.id, project, workload });
  }

  /** It takes nothing more, or has gone: its end lets it go on. */
  leave(member: Member): void {
    this.#idle.delete(member);
    member.paused = false;
    if (this.#idle.size > 0) return;
    this.#timer?.();
    this.#timer = null;
  }

  #look(atUs: number): void {
    const inMs = Math.max(0, Math.ceil((atUs - this.#options.clock.monotonicUs()) / 1_000));
    this.#timer = this.#options.clock.after(inMs, () => {
      this.#timer = null;
      const { pause, reason, decideAgainAtUs } = decidePauses(
        this.#idle,
        this.#afterMs!,
        this.#options.clock.monotonicUs(),
      );
      for (const member of pause) this.#pause(member, reason);
      if (decideAgainAtUs !== null) this.#look(decideAgainAtUs);
    });
  }

  #pause(member: Member, reason: string): void {
    this.#idle.delete(member);
    member.paused = true;
    const { driver, tell } = this.#options;
    const { project, workload } = member.revision;
    driver.pause(member.sandbox!).catch((error: unknown) => {
      if (member.stage !== "ready") return;
      member.paused = false;
      tell({ kind: "defect", errorId: newErrorId(), where: "fleet.pause", error });
    });
    tell({ kind: "instance_paused", instance: member.id, project, workload, reason });
  }
}
