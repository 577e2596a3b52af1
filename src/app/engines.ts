// `engines.node` of package.json -> one of ebb's Node versions. Of node-semver's grammar what decides a major version.

import type { RuntimeName } from "#model/workload.ts";

/** Newest first: the newest that is allowed is taken. */
const offered = [26, 24, 22] as const;
type Version = readonly [number, number, number];
/** From (included) to (excluded). */
type Interval = readonly [Version, Version];

const low: Version = [0, 0, 0];
const high: Version = [Infinity, 0, 0];

export interface NodeChoice {
  readonly runtime: RuntimeName;
  /** Something the author should know; null: nothing. */
  readonly note: string | null;
}

/** The newest offered version in the range; else the next above it, with a note. An unreadable range says nothing. */
export function chooseNode(range: unknown): NodeChoice {
  const newest: NodeChoice = { runtime: "node26", note: null };
  if (typeof range !== "string" || range.length > 256) return newest;
  const intervals = readRange(range);
  if (intervals === null)
    return { ...newest, note: `engines.node ${JSON.stringify(range)} cannot be read; node26 is used` };
  for (const major of offered)
    if (intervals.some(([from, to]) => compare(from, [major + 1, 0, 0]) < 0 && compare([major, 0, 0], to) < 0))
      return { runtime: `node${major}`, note: null };
  const above = offered.toReversed().find((major) => intervals.some(([, to]) => compare(to, [major, 0, 0]) <= 0)) ?? 26;
  return {
    runtime: `node${above}`,
    note: `engines.node is ${JSON.stringify(range)}; ebb has node22, node24 and node26, and node${above} is used`,
  };
}

/** Alternatives with "||"; null where a part is no range. An interval may be empty. */
function readRange(range: string): Interval[] | null {
  const intervals: Interval[] = [];
  for (const alternative of range.split("||")) {
    const hyphen = /^\s*(\S+)\s+-\s+(\S+)\s*$/.exec(alternative);
    const parts = hyphen
      ? [`>=${hyphen[1]}`, `<=${hyphen[2]}`]
      : alternative
          .replaceAll(/([<>=~^])\s+/g, "$1")
          .trim()
          .split(/\s+/);
    let [from, to]: Interval = [low, high];
    for (const part of parts) {
      const interval = readComparator(part);
      if (interval === null) return null;
      if (compare(interval[0], from) > 0) from = interval[0];
      if (compare(interval[1], to) < 0) to = interval[1];
    }
    if (compare(from, to) < 0) intervals.push([from, to]);
  }
  return intervals;
}

function readComparator(text: string): Interval | null {
  const match =
    /^(>=|<=|>|<|=|\^|~)?v?(\d{1,6}|[xX*])?(?:\.(\d{1,6}|[xX*]))?(?:\.(\d{1,6}|[xX*]))?(?:[-+][\w.+-]*)?$/.exec(text);
  if (!match) return null;
  const [, operator = "=", ...written] = match;
  const [major, minor, patch] = written.map((part) => (part === undefined || /[xX*]/.test(part) ? null : Number(part)));
  if (major === null || major === undefined) return [low, high];
  const from: Version = [major, minor ?? 0, patch ?? 0];
  // Where the version written ends: 20 is all of 20, 20.1 all of 20.1.
  const end: Version =
    minor === null || minor === undefined
      ? [major + 1, 0, 0]
      : patch === null || patch === undefined
        ? [major, minor + 1, 0]
        : [major, minor, patch + 1];
  switch (operator) {
    case ">=":
      return [from, high];
    case ">":
      return [end, high];
    case "<":
      return [low, from];
    case "<=":
      return [low, end];
    case "^":
      return [from, [major + 1, 0, 0]];
    case "~":
      return [from, minor === null || minor === undefined ? [major + 1, 0, 0] : [major, minor + 1, 0]];
    default:
      return [from, end];
  }
}

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || 0;
}
