// What a check of `ebb doctor` answers.

export type Verdict = "there" | "missing" | "too old" | "broken" | "note";

export interface Finding {
  readonly what: string;
  readonly verdict: Verdict;
  /** What was found: a version, a value. */
  readonly found: string;
  /** The command that mends it, or what to know; null: nothing to do. */
  readonly remedy: string | null;
}

/** Looks; never changes anything. */
export type Check = () => Promise<readonly Finding[]>;

/** What ebb cannot run without. */
export function isBad({ verdict }: Finding): boolean {
  return verdict === "missing" || verdict === "too old" || verdict === "broken";
}
