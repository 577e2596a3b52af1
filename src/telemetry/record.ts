// A line of the log as it lies on the disk: one JSON a line, short names, always in this order (queries look for the bytes).

import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { RunId } from "#model/run.ts";
import type { LogLine } from "./door.ts";
import { isLevel, readObject, type Level } from "./text.ts";

export interface LogRecord {
  readonly time: number;
  readonly workload: string;
  readonly instance: InstanceId | null;
  readonly invocation: InvocationId | null;
  /** Left out where it is of none. */
  readonly run?: RunId;
  readonly stream: LogLine["stream"];
  readonly level: Level;
  readonly message: string;
  /** Where its stream goes on behind it: whoever reads on after a death begins there. Of what is kept alone. */
  readonly at?: number;
}

const streams = { stdout: "o", stderr: "e", ebb: "b" } as const;

export function encodeRecord(record: LogRecord): string {
  const { time, workload, instance, invocation, run, stream, level, message, at } = record;
  const a = at === undefined ? "" : `"a":${at},`;
  const r = run === undefined ? "" : `"r":"${run}",`;
  const i = invocation === null ? "null" : `"${invocation}"`;
  const n = instance === null ? "null" : `"${instance}"`;
  return `{"t":${time},"w":"${workload}","i":${i},"n":${n},${r}"s":"${streams[stream]}","l":"${level}",${a}"m":${JSON.stringify(message)}}\n`;
}

/** Bytes that a record of this workload, invocation or run has in it and no other: a message cannot hold an unescaped quote. */
export function needleOf(field: "w" | "i" | "r", value: string): Buffer {
  return Buffer.from(`"${field}":"${value}"`);
}

/** Where a stream goes on behind this line; null: that is not known of it. */
export function placeOf(line: string): { readonly stream: 1 | 2; readonly at: number } | null {
  const said = readObject(line);
  if (said === null || typeof said["a"] !== "number") return null;
  return said["s"] === "o" || said["s"] === "e" ? { stream: said["s"] === "o" ? 1 : 2, at: said["a"] } : null;
}

/** null: torn by a crash, or not ours. */
export function decodeRecord(line: string): LogLine | null {
  const said = readObject(line);
  if (said === null) return null;
  const { t, w, i, s, l, m } = said;
  if (typeof t !== "number" || typeof w !== "string" || typeof m !== "string") return null;
  if (!isLevel(l)) return null;
  const stream = s === "o" ? "stdout" : s === "e" ? "stderr" : "ebb";
  return { time: t, workload: w, invocation: typeof i === "string" ? i : null, stream, level: l, message: m };
}
