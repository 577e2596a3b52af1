// What a check of `ebb doctor` is given, and what it answers.

export type Verdict = "there" | "missing" | "too old" | "broken" | "note";

export interface Finding {
  readonly what: string;
  readonly verdict: Verdict;
  /** What was found: a version, a value. */
  readonly found: string;
  /** The command that mends it, or what to know; null: nothing to do. */
  readonly remedy: string | null;
}

export interface Machine {
  /** Of the environment: where programs are looked for, besides the system's own folders. */
  readonly path: string;
  readonly root: boolean;
  /** Where a daemon here would keep its data. */
  readonly dataDirectory: string;
}

/** Looks; never changes anything. */
export type Check = (machine: Machine) => Promise<readonly Finding[]>;

/** What ebb cannot run without. */
export function isBad({ verdict }: Finding): boolean {
  return verdict === "missing" || verdict === "too old" || verdict === "broken";
}

export const apt = (pack: string): string => `sudo apt-get install -y ${pack}`;
