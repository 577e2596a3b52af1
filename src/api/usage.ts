// What ran by workload and day, and what went wrong: totals as they are taken, for they may be those of 100,000 workloads.

import { storeLimits } from "#model/limits.ts";
import { addUsage, type UsageTotal } from "#model/usage.ts";
import type { Store, UsageQuery } from "#store/door.ts";

const hourMs = 3_600_000;

/** All totals, as many at a time as the store answers. */
export async function* usagePages(
  store: Pick<Store, "usage">,
  query: UsageQuery,
): AsyncGenerator<readonly UsageTotal[]> {
  for (let after: UsageTotal | undefined; ;) {
    const page = await store.usage(after === undefined ? query : { ...query, after });
    yield page;
    after = page.at(-1);
    if (after === undefined || page.length < storeLimits.usageRows) return;
  }
}

export interface DayTotal extends UsageTotal {
  /** UTC. */
  readonly day: string;
}

/** Hourly totals added up by day, the workloads of each day together: no more than a day's are in memory. */
export async function* usageDays(pages: AsyncIterable<readonly UsageTotal[]>): AsyncGenerator<readonly DayTotal[]> {
  let day = "";
  let sums = new Map<string, DayTotal>();
  for await (const page of pages)
    for (const total of page) {
      const its = new Date(total.hourMs).toISOString().slice(0, 10);
      if (its !== day) {
        yield sorted(sums);
        sums = new Map();
        day = its;
      }
      const key = `${total.project}/${total.workload}`;
      const sum = sums.get(key);
      sums.set(key, sum ? { ...addUsage(sum, total), day } : { ...total, day });
    }
  yield sorted(sums);
}

function sorted(sums: ReadonlyMap<string, DayTotal>): DayTotal[] {
  return [...sums].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
}

/**
 * Errors of the last 60 minutes by workload, estimated from hourly totals as a sliding window: this hour's, and the part of the
 * last hour's that is less than an hour ago; rounded up, so that an error is never shown as none.
 */
export async function errorsLastHour(
  pages: AsyncIterable<readonly UsageTotal[]>,
  nowMs: number,
): Promise<Map<string, number>> {
  const thisHourMs = Math.floor(nowMs / hourMs) * hourMs;
  const share = 1 - (nowMs - thisHourMs) / hourMs;
  const sums = new Map<string, number>();
  for await (const page of pages)
    for (const { workload, hourMs: begin, errors } of page) {
      const part = begin >= thisHourMs ? errors : begin === thisHourMs - hourMs ? errors * share : 0;
      sums.set(workload, (sums.get(workload) ?? 0) + part);
    }
  for (const [workload, sum] of sums) sums.set(workload, Math.ceil(sum));
  return sums;
}
