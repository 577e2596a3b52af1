// Answers of the host's resolvers, kept for their time to live: bounded in number and size, the least recently asked goes first.

import type { Question, UpstreamAnswer } from "./decide.ts";
import { resolverLimits } from "#model/limits.ts";

export interface CachedAnswer {
  readonly answer: UpstreamAnswer;
  readonly ageSeconds: number;
}

interface Entry {
  readonly answer: UpstreamAnswer;
  readonly sinceUs: number;
  readonly untilUs: number;
}

export class AnswerCache {
  /** In the order of use: a Map keeps the order in which keys were set. */
  readonly #entries = new Map<string, Entry>();

  get(question: Question, nowUs: number): CachedAnswer | null {
    const key = keyOf(question);
    const entry = this.#entries.get(key);
    if (!entry) return null;
    this.#entries.delete(key);
    if (nowUs >= entry.untilUs) return null;
    this.#entries.set(key, entry);
    return { answer: entry.answer, ageSeconds: Math.floor((nowUs - entry.sinceUs) / 1_000_000) };
  }

  /** `bytes`: size of the answer on the wire; a large one is not kept. */
  put(
    question: Question,
    answer: UpstreamAnswer,
    options: { keepSeconds: number; bytes: number; nowUs: number },
  ): void {
    if (options.keepSeconds <= 0 || options.bytes > resolverLimits.cacheEntryBytes) return;
    const key = keyOf(question);
    this.#entries.delete(key);
    this.#entries.set(key, {
      answer,
      sinceUs: options.nowUs,
      untilUs: options.nowUs + options.keepSeconds * 1_000_000,
    });
    while (this.#entries.size > resolverLimits.cacheEntries) this.#entries.delete(this.#entries.keys().next().value!);
  }

  get size(): number {
    return this.#entries.size;
  }
}

export function keyOf(question: Question): string {
  return `${question.type} ${question.name}`;
}
