// Pure: times as people type them.

import { UsageError } from "./failure.ts";

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

function readTime(option: string, text: string, nowMs: number, direction: 1 | -1): number {
  const span = /^(\d{1,9})([smhdw])$/.exec(text);
  if (span) return nowMs + direction * Number(span[1]) * unitMs[span[2]!]!;
  const at = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at))
    throw new UsageError(`--${option}: expected 10m, 2h, 3d or a time such as 2026-11-24T12:00:00Z, found "${text}"`);
  return at;
}

/** Epoch ms, that long ago. */
export function past(option: string, text: string | null, nowMs: number): number | null {
  return text === null ? null : Math.max(0, readTime(option, text, nowMs, -1));
}

/** Epoch ms, that far ahead. */
export function ahead(option: string, text: string | null, nowMs: number): number | null {
  return text === null ? null : readTime(option, text, nowMs, 1);
}
