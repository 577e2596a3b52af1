// What a command of a build prints: told line by line, within bounds, and its end kept for whoever asks why it failed.

import { imageLimits } from "#model/limits.ts";

/** What all commands of a build may tell together. */
export class Told {
  readonly #tell: (line: string) => void;
  #count = 0;

  constructor(tell: (line: string) => void) {
    this.#tell = tell;
  }

  say(line: string): void {
    if (line.trim() === "" || this.#count > imageLimits.runLinesTold) return;
    this.#count += 1;
    if (this.#count > imageLimits.runLinesTold) return this.#tell("… it prints more, which is not told");
    this.#tell(line.slice(0, imageLimits.runLineChars));
  }
}

/** Of one command. */
export class RunOutput {
  readonly #told: Told;
  readonly #decoder = new TextDecoder();
  #open = "";
  #last = "";

  constructor(told: Told) {
    this.#told = told;
  }

  take(piece: Uint8Array): void {
    this.#add(this.#decoder.decode(piece, { stream: true }));
  }

  end(): void {
    if (this.#open !== "") this.#add("\n");
  }

  /** The end of it. */
  get last(): string {
    return this.#last;
  }

  #add(text: string): void {
    // oxlint-disable-next-line no-control-regex -- they would reach a terminal
    const clean = text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "");
    this.#last = (this.#last + clean).slice(-imageLimits.runOutputKeptChars);
    const lines = (this.#open + clean).split("\n");
    // A line without an end is not waited for.
    this.#open = lines.pop()!.slice(0, imageLimits.runLineChars);
    for (const line of lines) this.#told.say(line);
  }
}
