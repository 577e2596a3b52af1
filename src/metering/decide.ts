// Decides whether a project may run one more now, and what retention may throw away. Pure: no I/O, no clock, no chance.

import { recordLimits } from "#model/limits.ts";
import type { RecordDay } from "./door.ts";

/** A token bucket: a second's worth of burst, filled at the project's rate. */
export interface Bucket {
  readonly tokens: number;
  readonly filledUs: number;
}

export interface RateDecision {
  readonly admitted: boolean;
  readonly bucket: Bucket;
  /** Until the next token; 0 when admitted. */
  readonly retryAfterUs: number;
  readonly reason: string;
}

/** `bucket` null: the first call. A rate that changed counts from now on. */
export function decideRate(bucket: Bucket | null, ratePerSecond: number, nowUs: number): RateDecision {
  const burst = Math.max(1, ratePerSecond);
  const filled = bucket
    ? Math.min(burst, bucket.tokens + (Math.max(0, nowUs - bucket.filledUs) * ratePerSecond) / 1_000_000)
    : burst;
  if (filled >= 1)
    return {
      admitted: true,
      bucket: { tokens: filled - 1, filledUs: nowUs },
      retryAfterUs: 0,
      reason: "within the rate",
    };
  const retryAfterUs = ratePerSecond > 0 ? Math.ceil(((1 - filled) * 1_000_000) / ratePerSecond) : 60_000_000;
  const reason = `more than ${ratePerSecond} invocations a second`;
  return { admitted: false, bucket: { tokens: filled, filledUs: nowUs }, retryAfterUs, reason };
}

const dayMs = 86_400_000;

export interface RetentionDecision {
  /** Of which day how many records may go, oldest first; at most one day for each project. */
  readonly delete: readonly {
    readonly project: string;
    readonly dayMs: number;
    readonly records: number;
    readonly reason: string;
  }[];
  /** Hourly totals before this may go; null: none. */
  readonly totalsBeforeMs: number | null;
}

/**
 * What one pass may delete. Age is counted from the newest record, never from the clock, and a pass takes at most
 * one day of each project: a clock that jumps erases nothing until somebody has had a day to see it.
 */
export function decideRetention(
  days: readonly RecordDay[],
  totals: { readonly oldestMs: number; readonly newestMs: number } | null,
): RetentionDecision {
  const newestDayMs = days.reduce((newest, day) => Math.max(newest, day.dayMs), 0);
  const byProject = new Map<string, { oldest: RecordDay; records: number }>();
  for (const day of days) {
    const known = byProject.get(day.project);
    if (!known) byProject.set(day.project, { oldest: day, records: day.records });
    else {
      known.records += day.records;
      if (day.dayMs < known.oldest.dayMs) known.oldest = day;
    }
  }
  const chosen: { project: string; dayMs: number; records: number; reason: string }[] = [];
  const keptRecords = Math.floor(recordLimits.keptBytesPerProject / recordLimits.recordBytes);
  for (const [project, { oldest, records }] of byProject) {
    const tooMany = Math.min(oldest.records, records - keptRecords);
    if (newestDayMs - oldest.dayMs > recordLimits.keptDays * dayMs)
      chosen.push({ ...oldest, project, reason: `older than ${recordLimits.keptDays} days` });
    else if (tooMany > 0)
      chosen.push({
        project,
        dayMs: oldest.dayMs,
        records: tooMany,
        reason: "more than the project's space for records",
      });
  }
  return { delete: chosen, totalsBeforeMs: totalsBefore(totals) };
}

function totalsBefore(totals: { readonly oldestMs: number; readonly newestMs: number } | null): number | null {
  if (!totals) return null;
  const newest = new Date(totals.newestMs);
  const keptFromMs = Date.UTC(newest.getUTCFullYear(), newest.getUTCMonth() - recordLimits.totalsKeptMonths, 1);
  if (totals.oldestMs >= keptFromMs) return null;
  return Math.min(keptFromMs, totals.oldestMs + recordLimits.deletedPerPassDays * dayMs);
}
