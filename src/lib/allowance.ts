// So many of something a second, and so many at once: a token bucket. Pure.

export class Allowance {
  readonly #perUs: number;
  readonly #burst: number;
  #left: number;
  #atUs: number;

  constructor(perSecond: number, burst: number, nowUs: number) {
    this.#perUs = perSecond / 1e6;
    this.#burst = burst;
    this.#left = burst;
    this.#atUs = nowUs;
  }

  /** One more. False: it is one too many. */
  take(nowUs: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + Math.max(0, nowUs - this.#atUs) * this.#perUs);
    this.#atUs = nowUs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
