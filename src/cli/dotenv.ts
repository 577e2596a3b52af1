// Pure: NAME=VALUE lines of a .env file, as dotenv's users write them.

import { UsageError } from "./failure.ts";

/** Names and values in the file's order. `file` is for the sentence when a line is wrong. */
export function readDotenv(text: string, file: string): Array<readonly [string, string]> {
  const pairs: Array<readonly [string, string]> = [];
  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!.replace(/\r$/, "");
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(line);
    if (!match) throw new UsageError(`${file}:${i + 1}: expected NAME=VALUE`);
    let raw = match[2]!;
    const begin = i;
    // A quoted value may go over several lines (a key in PEM form).
    while (/^["'`]/.test(raw) && !closed(raw) && i + 1 < lines.length) raw += `\n${lines[++i]!}`;
    if (/^["'`]/.test(raw) && !closed(raw)) throw new UsageError(`${file}:${begin + 1}: the quote is never closed`);
    pairs.push([match[1]!, valueOf(raw)]);
  }
  return pairs;
}

function closed(raw: string): boolean {
  return end(raw) > 0;
}

/** Index of the closing quote; -1: there is none. */
function end(raw: string): number {
  for (let i = 1; i < raw.length; i++) {
    if (raw[i] === "\\" && raw[0] === '"') i += 1;
    else if (raw[i] === raw[0]) return i;
  }
  return -1;
}

function valueOf(raw: string): string {
  if (!/^["'`]/.test(raw)) return raw.replace(/\s+#.*$/, "").trim();
  const inner = raw.slice(1, end(raw));
  return raw.startsWith('"')
    ? inner.replaceAll(/\\([nrt"\\])/g, (_, c: string) => ({ n: "\n", r: "\r", t: "\t" })[c] ?? c)
    : inner;
}
