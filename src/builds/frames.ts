// Reads what the transpiler wrote to its stdout. It ran a tenant's bytes: nothing of it is believed that is not asked for.

import { EbbError } from "#model/errors.ts";

export interface Transpiled {
  readonly code: Uint8Array;
  readonly map: Uint8Array;
}

export interface SyntaxProblem {
  readonly text: string;
  readonly file: string | null;
  readonly line: number | null;
  readonly column: number | null;
  readonly lineText: string | null;
}

export type TranspileAnswer =
  | { readonly ok: true; readonly outputs: readonly Transpiled[] }
  | { readonly ok: false; readonly count: number; readonly problems: readonly SyntaxProblem[] };

const headBytes = 13;

/** `count`: how many files were asked for; exactly these come back, each once. Throws EbbError internal on anything else. */
export function readFrames(bytes: Uint8Array, count: number): TranspileAnswer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const outputs: Transpiled[] = Array.from({ length: count });
  let frames = 0;
  for (let at = 0; at + headBytes <= bytes.length; frames++) {
    const kind = String.fromCharCode(bytes[at]!);
    const index = view.getUint32(at + 1);
    const codeBytes = view.getUint32(at + 5);
    const mapBytes = view.getUint32(at + 9);
    const codeAt = at + headBytes;
    const end = codeAt + codeBytes + mapBytes;
    if (end > bytes.length) throw broken("it was cut short");
    if (kind === "Z") {
      if (index !== frames || end !== bytes.length || frames !== count) throw broken("it is not what was asked for");
      return { ok: true, outputs };
    }
    if (kind === "E") return { ok: false, ...readProblems(bytes.subarray(codeAt, codeAt + codeBytes)) };
    if (kind !== "F" || index >= count || outputs[index] !== undefined) throw broken("it is not what was asked for");
    outputs[index] = { code: bytes.subarray(codeAt, codeAt + codeBytes), map: bytes.subarray(codeAt + codeBytes, end) };
    at = end;
  }
  throw broken("it was cut short");
}

function readProblems(bytes: Uint8Array): { count: number; problems: SyntaxProblem[] } {
  try {
    const value = JSON.parse(Buffer.from(bytes).toString()) as { count: unknown; errors: unknown };
    if (!Array.isArray(value.errors) || value.errors.length === 0) throw new Error("no errors");
    const problems = (value.errors.slice(0, 50) as unknown[]).map(readProblem);
    return { count: typeof value.count === "number" ? value.count : problems.length, problems };
  } catch (cause) {
    throw broken("its errors cannot be read", cause);
  }
}

function readProblem(value: unknown): SyntaxProblem {
  const { text, file, line, column, lineText } = (value ?? {}) as Record<keyof SyntaxProblem, unknown>;
  return {
    text: oneLine(text, 500) ?? "cannot be transpiled",
    file: oneLine(file, 300),
    line: typeof line === "number" && Number.isSafeInteger(line) ? line : null,
    column: typeof column === "number" && Number.isSafeInteger(column) ? column : null,
    lineText: oneLine(lineText, 400),
  };
}

function oneLine(value: unknown, max: number): string | null {
  return typeof value === "string" ? value.slice(0, max).replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, " ") : null;
}

function broken(why: string, cause?: unknown): EbbError {
  return new EbbError("internal", `what the transpiler wrote cannot be used: ${why}`, { cause });
}

/** `index.ts:3:5: Expected ";" but found "x"`, the line below it, and how many more there are. */
export function sentenceOf(count: number, problems: readonly SyntaxProblem[]): string {
  const told = problems.slice(0, 10).map(({ file, line, column, text, lineText }) => {
    // esbuild counts columns from 0, everybody else from 1.
    const where = file === null ? "" : `${file}${line === null ? "" : `:${line}:${(column ?? 0) + 1}`}: `;
    return `${where}${text}${lineText === null || lineText.trim() === "" ? "" : `\n    ${lineText.trim()}`}`;
  });
  if (count > told.length) told.push(`and ${count - told.length} more`);
  return told.join("\n");
}
