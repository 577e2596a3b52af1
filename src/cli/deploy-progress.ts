// How far a deploy is, in one line for whoever waits: what is sent, then what the daemon says it is at.

import type { DeployStep } from "#client/client.ts";
import { sanitized, type Output } from "./output.ts";

/** Often enough for a count that grows to be seen growing. */
const redrawMs = 250;

export class DeployProgress {
  #sentBytes = 0;
  /** What the whole of it is at while no workload is in the works; null: it is being sent. */
  #stage: string | null = null;
  /** Workload to what is done with it now. */
  readonly #doing = new Map<string, string>();

  sent(bytes: number): void {
    this.#sentBytes += bytes;
  }

  told(step: DeployStep): void {
    if (step.step === "received") this.#stage = `received ${step.files} ${step.files === 1 ? "file" : "files"}`;
    else if (step.step === "building" || step.step === "checking") this.#doing.set(step.workload, step.step);
    else if (step.step === "fetching") this.#doing.set(step.workload, `fetching ${step.what} for`);
    else if (step.step === "image") this.#doing.set(step.workload, `${sanitized(step.message)} for`);
    else if (step.step === "checked") {
      this.#doing.delete(step.workload);
      this.#stage = "switching";
    }
  }

  line(seconds: number): string {
    return seconds < 1 ? this.#words() : `${this.#words()} … ${Math.floor(seconds)} s`;
  }

  #words(): string {
    if (this.#doing.size === 0) return this.#stage ?? `sending, ${(this.#sentBytes / 1e6).toFixed(1)} MB so far`;
    const doing = Map.groupBy(this.#doing, ([, what]) => what);
    return [...doing].map(([what, those]) => `${what} ${those.map(([workload]) => workload).join(", ")}`).join("; ");
  }
}

export interface ShownProgress {
  sent(bytes: number): void;
  told(step: DeployStep): void;
  end(): void;
}

export function showProgress(output: Pick<Output, "status">): ShownProgress {
  const progress = new DeployProgress();
  const began = performance.now();
  const draw = (): void => output.status(progress.line((performance.now() - began) / 1000));
  const timer = setInterval(draw, redrawMs);
  return {
    sent: (bytes) => progress.sent(bytes),
    told(step) {
      progress.told(step);
      draw();
    },
    end() {
      clearInterval(timer);
      output.status(null);
    },
  };
}
