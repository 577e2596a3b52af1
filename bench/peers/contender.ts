// What takes part in the comparison, ebb itself included: one door, so that all are measured by one method.

/** Where the hello function is served. */
export interface Served {
  readonly port: number;
  /** The Host that reaches it. */
  readonly host: string;
  stop(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  /** What exactly was measured. */
  readonly version: string;
  /** What keeps one function from its neighbour and from the machine, as it was run here; in short before the colon. */
  readonly isolates: string;
  /** Of ebb: without it there is nothing to compare with. */
  readonly ours?: true;
  /** Milliseconds from nothing of it running to its first complete answer. Afterwards nothing runs again. */
  coldStart(): Promise<number>;
  serve(): Promise<Served>;
}

/** One that cannot be measured here, and why. */
export interface Absent {
  readonly name: string;
  readonly reason: string;
}

export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
