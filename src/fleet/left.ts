// What an execution leaves at its end: output that is on its way into the log, and what was kept of it for another ebb.

import type { InstanceId } from "#model/ids.ts";
import type { LaunchContext } from "./launch.ts";

/** A worker that has died is there again by then, and has read what its predecessor had not written. */
const againAfterMs = 1_000;
const tries = 5;

export class Left {
  readonly #context: Pick<LaunchContext, "telemetry" | "driver" | "clock">;
  readonly #instance: InstanceId;
  #settled: Promise<void> = Promise.resolve();

  constructor(context: Pick<LaunchContext, "telemetry" | "driver" | "clock">, instance: InstanceId) {
    this.#context = context;
    this.#instance = instance;
  }

  ended(): void {
    this.#context.telemetry.detach(this.#instance);
    this.#settled = this.#settle();
    this.#settled.catch(() => undefined);
  }

  async #settle(): Promise<void> {
    const { telemetry, clock } = this.#context;
    for (let attempt = 1; ; attempt++) {
      try {
        return await telemetry.settled(this.#instance);
      } catch (error) {
        if (attempt === tries) throw error;
        await new Promise<void>((resolve) => void clock.after(againAfterMs, resolve));
      }
    }
  }

  settled(): Promise<void> {
    return this.#settled;
  }

  async forget(): Promise<void> {
    await this.#settled;
    await this.#context.driver.forget(this.#instance);
  }
}
