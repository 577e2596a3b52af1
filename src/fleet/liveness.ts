// Asks the instances whose containers want it whether they are well, while they are not paused; tells of those that are not.

import type { Duplex } from "node:stream";
import { isWell, statusOf } from "#lib/status-of.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import type { Failure } from "#model/instance.ts";
import { httpLimits, probeLimits } from "#model/limits.ts";
import type { Member } from "./member.ts";

export interface LivenessOptions {
  readonly clock: Clock;
  readonly connect: (member: Member) => Duplex;
  /** It has not been well for so often that it is of no use. */
  readonly unwell: (member: Member, failure: Failure) => void;
}

interface Watched {
  /** In a row. */
  failures: number;
  /** null: it was paused when it was to be asked. */
  timer: Cancel | null;
}

export class Liveness {
  readonly #options: LivenessOptions;
  readonly #watched = new Map<Member, Watched>();

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  /** It serves from now on. */
  watch(member: Member): void {
    if (pathOf(member) === null) return;
    const watched: Watched = { failures: 0, timer: null };
    this.#watched.set(member, watched);
    this.#later(member, watched);
  }

  /** Something is handed to it: if it was paused, it is asked again from now on. */
  busy(member: Member): void {
    const watched = this.#watched.get(member);
    if (watched?.timer === null) this.#later(member, watched);
  }

  leave(member: Member): void {
    this.#watched.get(member)?.timer?.();
    this.#watched.delete(member);
  }

  #later(member: Member, watched: Watched): void {
    watched.timer = this.#options.clock.after(probeLimits.livenessEveryMs, () => {
      // What is held still cannot answer, and an idle ebb has no timer: the next call is when it is looked at again.
      if (member.paused) watched.timer = null;
      else void this.#ask(member, watched);
    });
  }

  async #ask(member: Member, watched: Watched): Promise<void> {
    const path = pathOf(member)!;
    const status = await statusOf({
      connect: () => this.#options.connect(member),
      path,
      timeoutMs: probeLimits.answerMs,
      headBytes: httpLimits.responseHeadBytes,
    });
    if (this.#watched.get(member) !== watched) return;
    // A pause that came in between kept it from answering.
    watched.failures = isWell(status) || member.paused ? 0 : watched.failures + 1;
    if (watched.failures < probeLimits.livenessFailures) return this.#later(member, watched);
    this.leave(member);
    const said = typeof status === "number" ? `it answered ${status}` : status;
    const message = `Its liveness probe GET ${path} failed ${watched.failures} times in a row: ${said}.`;
    this.#options.unwell(member, { fault: "function", message, stack: null, hint: null });
  }
}

function pathOf({ revision }: Member): string | null {
  return revision.kind === "container" ? (revision.settings.liveness?.http ?? null) : null;
}
