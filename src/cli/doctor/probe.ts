// How doctor looks at the machine: short programs and files, without a shell.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** stdout of a short program, stderr where it wrote nothing else; null: it is not there, or it failed. */
export function outputOf(program: string, ...argv: readonly string[]): Promise<string | null> {
  return new Promise((done) => {
    execFile(program, argv, { timeout: 5_000, maxBuffer: 1 << 20 }, (error, stdout, stderr) =>
      done(error ? null : stdout || stderr),
    );
  });
}

/** Absolute path of a program; null: there is none. sbin too, which a user's PATH may lack. */
export async function find(program: string): Promise<string | null> {
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
  ];
  for (const folder of folders) {
    const path = join(folder, program);
    if (
      folder !== "" &&
      (await access(path, constants.X_OK).then(
        () => true,
        () => false,
      ))
    )
      return path;
  }
  return null;
}

/** Trimmed; null: it cannot be read. */
export function contentOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

/** "1.8.1" of whatever a program says of itself. */
export function versionIn(text: string | null): string | null {
  return /(\d+\.\d+(?:\.\d+)?)/.exec(text ?? "")?.[1] ?? null;
}

export function olderThan(version: string, wanted: string): boolean {
  const [a, b] = [version, wanted].map((one) => one.split(".").map(Number));
  for (let i = 0; i < 3; i++) if ((a![i] ?? 0) !== (b![i] ?? 0)) return (a![i] ?? 0) < (b![i] ?? 0);
  return false;
}
