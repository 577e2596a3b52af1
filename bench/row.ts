// One line of the benchmark's table.

export interface Row {
  readonly number: string;
  readonly target: string;
  /** What it is compared with, measured in the same run; "–" where the target is absolute. */
  readonly floor: string;
  readonly seen: string;
  /** null: it is there to be compared with, and promises nothing. */
  readonly held: boolean | null;
}

export function inMs(ms: number, digits = 1): string {
  return `${ms.toFixed(digits)} ms`;
}
