// Which invocations run or ran in an instance: marks and frames of its output may name no other.

import type { InvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";

const half = logLimits.idsRemembered / 2;
const idChars = 26;

/**
 * All ids are told, and of most nobody ever writes a line: they stay the text that they came as until one is looked for.
 * Older ones go: at least half of the bound is remembered.
 */
export class ToldIds {
  #texts: string[] = [];
  #chars = 0;
  #ids = new Set<InvocationId>();
  /** The earlier half goes at once. */
  #earlier = new Set<InvocationId>();

  /** Ids with a space between each. */
  tell(text: string): void {
    this.#texts.push(text);
    this.#chars += text.length + 1;
    const most = half * (idChars + 1);
    if (this.#chars <= 2 * most) return;
    let dropped = 0;
    while (this.#chars - this.#texts[dropped]!.length - 1 >= most) this.#chars -= this.#texts[dropped++]!.length + 1;
    this.#texts = this.#texts.slice(dropped);
    // What has been looked at is older still.
    this.#ids.clear();
    this.#earlier.clear();
  }

  has(id: InvocationId): boolean {
    this.#look();
    return this.#ids.has(id) || this.#earlier.has(id);
  }

  /** None was ever told. */
  get empty(): boolean {
    this.#look();
    return this.#ids.size === 0 && this.#earlier.size === 0;
  }

  #look(): void {
    if (this.#texts.length === 0) return;
    for (const text of this.#texts)
      for (const id of text.split(" ")) {
        this.#ids.add(id);
        if (this.#ids.size < half) continue;
        this.#earlier = this.#ids;
        this.#ids = new Set();
      }
    this.#texts = [];
    this.#chars = 0;
  }
}
