// Runs a task for each item, so many at a time, and keeps the answers in the items' order.

/** Rejects with the first error; tasks that have begun still end before it does. */
export async function eachLimited<T, R>(
  items: readonly T[],
  atOnce: number,
  task: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let failed = false;
  let reason: unknown;
  const work = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        results[index] = await task(items[index]!, index);
      } catch (error) {
        if (!failed) reason = error;
        failed = true;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, work));
  if (failed) throw reason;
  return results;
}
