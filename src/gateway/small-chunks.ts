// Bodies in tiny chunks. One byte a chunk would cost a write for each, and a read of 64 KiB is eleven thousand of them: they go
// on as one, and whoever sends so many rests in proportion, so that the main thread belongs to the others too. Pure.

/** Chunks below this wait for the end of the turn. */
export const smallBytes = 1_024;

/** So many in one turn are nothing: a stream of events, a page written line by line. */
const freeCount = 512;
/** What a chunk costs the main thread is a few microseconds: this leaves most of its time to others. */
const restUs = 10;

/** How long a stream rests that brought so many small chunks in one turn; 0: not at all. */
export function pauseMs(count: number): number {
  return count <= freeCount ? 0 : Math.ceil((count * restUs) / 1_000);
}
