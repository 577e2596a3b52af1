// How much of an instance's output is kept: a token bucket that, once empty, drops until it is worth going on, and counts what it drops.

/** Each line costs so much beside its bytes: what is written of it is longer than what was read, and empty lines flood too. */
const lineOverheadBytes = 64;
/** A quarter of a second's worth: a notice about drops at most four times a second. */
const resumeShare = 0.25;

export interface Dropped {
  readonly lines: number;
  readonly bytes: number;
}

export class Bucket {
  readonly #bytesPerSecond: number;
  readonly #burstBytes: number;
  #tokens: number;
  #atUs: number;
  #dropping = false;
  #lines = 0;
  #bytes = 0;

  constructor(bytesPerSecond: number, burstBytes: number, nowUs: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#burstBytes = burstBytes;
    this.#tokens = burstBytes;
    this.#atUs = nowUs;
  }

  /** Time goes on: once a chunk is enough. */
  refill(nowUs: number): void {
    const passedSeconds = Math.max(0, nowUs - this.#atUs) / 1e6;
    this.#atUs = nowUs;
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + passedSeconds * this.#bytesPerSecond);
    if (this.#tokens >= this.#bytesPerSecond * resumeShare) this.#dropping = false;
  }

  /** May a line of so many bytes be kept? It is counted either way. */
  take(bytes: number): boolean {
    const cost = bytes + lineOverheadBytes;
    if (!this.#dropping && this.#tokens >= cost) {
      this.#tokens -= cost;
      return true;
    }
    this.#dropping = true;
    this.#lines++;
    this.#bytes += bytes;
    return false;
  }

  get dropping(): boolean {
    return this.#dropping;
  }

  /** What was dropped since this was asked last; null: nothing. */
  takeDropped(): Dropped | null {
    if (this.#lines === 0) return null;
    const dropped = { lines: this.#lines, bytes: this.#bytes };
    this.#lines = 0;
    this.#bytes = 0;
    return dropped;
  }
}
