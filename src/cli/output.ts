// What goes to stdout and stderr: JSON or words, tables, and nothing that drives a terminal unless it is ours.

import type { Writable } from "node:stream";
import type { ScalingRow } from "#client/client.ts";
import type { Streams } from "./streams.ts";

/** Control characters but tab and newline: an escape sequence in a log line could retitle, rewrite or paste into a terminal. */
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function sanitized(text: string): string {
  return text.replace(controls, (character) =>
    character === "\r" ? "" : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Of a terminal that does not say. */
const narrowColumns = 80;

export type Style = "bold" | "dim" | "red" | "yellow" | "green";
const codes: Record<Style, number> = { bold: 1, dim: 2, red: 31, yellow: 33, green: 32 };

export interface Output {
  readonly json: boolean;
  readonly terminal: boolean;
  /** The one JSON value of a command, or one of a stream. */
  value(value: unknown): void;
  /** A line for a person; nothing with --json. */
  line(text?: string): void;
  /** A line of stderr for a person: progress, hints; nothing with --json. */
  note(text: string): void;
  /** What goes on at the moment: one line of a terminal's stderr, rewritten in place, gone with the next word or null. Nothing with --json. */
  status(text: string | null): void;
  table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): void;
  style(style: Style, text: string): string;
  /** Bytes as they are, to stdout; made harmless where stdout is a terminal. */
  bytes(chunk: Uint8Array): Promise<void>;
}

export function createOutput(
  streams: Pick<Streams, "stdout" | "stderr">,
  options: { json: boolean; color: boolean; rewrites: boolean },
): Output {
  const { json } = options;
  const terminal = streams.stdout.isTTY === true;
  const color = options.color && terminal;
  const style = (name: Style, text: string): string => (color ? `\u001b[${codes[name]}m${text}\u001b[0m` : text);
  const decoder = new TextDecoder();
  let status: string | null = null;
  const showStatus = (text: string | null): void => {
    if (json || !options.rewrites || !streams.stderr.isTTY || text === status) return;
    // A line that wraps could not be taken back.
    const fitting = text === null ? "" : sanitized(text).slice(0, (streams.stderr.columns || narrowColumns) - 1);
    streams.stderr.write(`\r\u001b[K${fitting}`);
    status = text;
  };
  const say = (stream: Writable, text: string): void => {
    showStatus(null);
    stream.write(`${text}\n`);
  };
  return {
    json,
    terminal,
    style,
    value: (value) => say(streams.stdout, JSON.stringify(value)),
    line: (text = "") => void (json || say(streams.stdout, text)),
    note: (text) => void (json || say(streams.stderr, text)),
    status: showStatus,
    table(head, rows) {
      if (json) return;
      const clean = rows.map((row) => row.map((cell) => sanitized(cell).replaceAll("\n", " ")));
      const widths = head.map((title, i) =>
        clean.reduce((widest, row) => Math.max(widest, row[i]?.length ?? 0), title.length),
      );
      const layout = (row: readonly string[]): string =>
        row
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd();
      // At once: a write for each of 100,000 rows takes longer than all the rest.
      say(streams.stdout, [style("dim", layout(head)), ...clean.map(layout)].join("\n"));
    },
    async bytes(chunk) {
      const data = terminal ? sanitized(decoder.decode(chunk, { stream: true })) : chunk;
      if (!streams.stdout.write(data)) await new Promise((resolve) => streams.stdout.once("drain", resolve));
    },
  };
}

/** Zero instances are asleep, not broken; paused: there are some, and all of them are held still until somebody calls. */
export function stateWord(
  row: {
    readonly kind: string;
    readonly state: string;
    readonly instances: number;
    readonly paused: number;
    readonly nextStart: string | null;
  },
  nowMs = Date.now(),
): string {
  const waitMs = row.nextStart === null ? 0 : Date.parse(row.nextStart) - nowMs;
  if (row.state === "crash_loop" && waitMs > 0) return `crash_loop, next start in ${Math.ceil(waitMs / 1_000)} s`;
  if (row.state !== "ready") return row.state;
  if (row.kind === "job") return row.instances === 0 ? "idle" : "running";
  if (row.instances === 0) return "asleep";
  return row.paused === row.instances ? "paused" : "ready";
}

/** "cpu 72/60%": by what it scales, what was used and what is aimed at; "80 requests". */
export function scalingWord(scaling: ScalingRow | null): string {
  if (scaling === null) return "-";
  if (scaling.by === "requests") return scaling.target === 1 ? "1 request" : `${scaling.target} requests`;
  return `${scaling.by} ${scaling.percent === null ? "" : `${scaling.percent}/`}${scaling.target}%`;
}

/** "3m", "2h", "5d": how long ago; "-": never. */
export function ago(time: string | null, nowMs: number): string {
  if (time === null) return "-";
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Three significant digits at least where it is small: 0.00123, 1.2, 1,234. */
export function figure(value: number): string {
  if (value === 0) return "0";
  if (value >= 100) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(3)));
}
