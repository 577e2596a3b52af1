// What the comparison prints: pure, from samples to Markdown, and into the pages that show it.

import { median, percentile, type LoadResult } from "../load.ts";
import type { Absent } from "./contender.ts";

export interface Measured {
  readonly name: string;
  readonly version: string;
  readonly isolates: string;
  /** Milliseconds. */
  readonly coldMs: number[];
  /** On one connection, and on 32; one result a round. */
  readonly one: LoadResult[];
  readonly many: LoadResult[];
}

export const connections = 32;

/** The order of turns in a round: each order is followed by its reverse, and after both another one begins. */
export function turnsOf<T>(all: readonly T[], round: number): T[] {
  const first = Math.floor(round / 2) % all.length;
  const turned = [...all.slice(first), ...all.slice(0, first)];
  return round % 2 === 0 ? turned : turned.toReversed();
}

export function longTable(measured: readonly Measured[], absent: readonly Absent[]): string {
  const rows = measured.map((one) => [
    `${one.name}, ${one.version}`,
    one.isolates,
    `${inUnits(at(one.one, 50))} / ${inUnits(at(one.one, 99))}`,
    `${rate(one.many)}${failedOf(one)}`,
    coldOf(one.coldMs),
  ]);
  const missing = absent.map(({ name, reason }) => [name, `not measured: ${reason}`, "–", "–", "–"]);
  const head = [
    "system",
    "what isolates a function",
    "one connection, p50 / p99",
    `${connections} connections, requests/s`,
    "cold start, median (worst)",
  ];
  return markdown([head, ...rows, ...missing]);
}

/** For a first page. */
export function shortTable(measured: readonly Measured[], absent: readonly Absent[]): string {
  const rows = measured.map((one) => [
    one.name,
    one.isolates.split(":")[0] ?? "",
    inUnits(at(one.one, 50)),
    rate(one.many),
    inUnits(median(one.coldMs)),
  ]);
  const missing = absent.map(({ name }) => [name, "not measured in this run", "–", "–", "–"]);
  const head = [
    "system",
    "isolates by",
    "warm call, p50",
    `requests/s on ${connections} connections`,
    "cold start, p50",
  ];
  return markdown([head, ...rows, ...missing]);
}

/** The text with what stands between the marks of `name` replaced; a page without them is a mistake. */
export function withBlock(text: string, name: string, block: string): string {
  const [begin, end] = [`<!-- ${name}: by npm run bench -- peers --write -->\n`, `<!-- end of ${name} -->`];
  const from = text.indexOf(begin);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`there is no place for ${name}: ${begin.trim()} … ${end}`);
  return `${text.slice(0, from + begin.length)}${block}\n${text.slice(to)}`;
}

/** Three digits are more than the measurement has. */
export function inUnits(ms: number): string {
  if (ms < 0.995) return `${Math.round(ms * 1000)} µs`;
  return `${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

function at(results: readonly LoadResult[], percent: number): number {
  return median(results.map((result) => percentile(result.latenciesMs, percent)));
}

function rate(results: readonly LoadResult[]): string {
  const perSecond = median(results.map((result) => result.requestsPerSecond));
  return Number(perSecond.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 0 });
}

function failedOf({ one, many }: Measured): string {
  const failed = [...one, ...many].reduce((sum, result) => sum + result.failures, 0);
  return failed === 0 ? "" : ` (${failed} failed)`;
}

function coldOf(times: readonly number[]): string {
  return `${inUnits(median(times))} (${inUnits(Math.max(...times))}, n=${times.length})`;
}

function markdown([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll(/\s+/g, " ")).join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}
