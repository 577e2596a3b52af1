// One piece of work that several wait for: each hears its progress, and it is given up when nobody waits any more.

import { EbbError } from "#model/errors.ts";
import type { FetchOptions } from "./door.ts";

type Progress = FetchOptions["progress"];

export class Joined<T> {
  readonly result: Promise<T>;
  readonly #controller = new AbortController();
  readonly #listeners = new Set<Progress>();
  /** For those who come later. */
  #lastLine: string | null = null;

  constructor(work: (progress: Progress, signal: AbortSignal) => Promise<T>) {
    const tell: Progress = (line, printed) => {
      this.#lastLine = line;
      for (const listener of this.#listeners) listener(line, printed);
    };
    this.result = work(tell, this.#controller.signal);
    // Whoever has joined hears of it.
    this.result.catch(() => {});
  }

  end(reason: EbbError): void {
    this.#controller.abort(reason);
  }

  async join(progress: Progress, signal?: AbortSignal): Promise<T> {
    // One listener each, though two may pass the same function.
    const listener: Progress = (line, printed) => progress(line, printed);
    this.#listeners.add(listener);
    if (this.#lastLine !== null) listener(this.#lastLine);
    const left = Promise.withResolvers<never>();
    left.promise.catch(() => {});
    const leave = (): void => {
      const reason = givenUp();
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.end(reason);
      left.reject(reason);
    };
    signal?.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([this.result, left.promise]);
    } finally {
      signal?.removeEventListener("abort", leave);
      this.#listeners.delete(listener);
    }
  }
}

export function givenUp(): EbbError {
  return new EbbError("conflict", "the fetch of the image was given up by who asked for it");
}
