// What a run of the bench measures, from its arguments.

export interface Choice {
  /** What SPECIFICATION.md promises. */
  readonly numbers: boolean;
  /** Other people's systems, beside ebb. */
  readonly peers: boolean;
  /** The peers' tables go into the pages that show them. */
  readonly write: boolean;
}

export const usage = "usage: npm run bench [-- numbers | peers [--write]]";

export function choiceOf(argv: readonly string[]): Choice {
  const [what, ...more] = argv;
  if (what === undefined) return { numbers: true, peers: true, write: false };
  if (what === "numbers" && more.length === 0) return { numbers: true, peers: false, write: false };
  const write = more.length === 1 && more[0] === "--write";
  if (what === "peers" && (write || more.length === 0)) return { numbers: false, peers: true, write };
  throw new RangeError(usage);
}
