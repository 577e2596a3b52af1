// How doctor looks at the machine: short programs and files, without a shell.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { apt, type Finding } from "./check.ts";

export interface Ended {
  /** null: it could not be started, or did not end in time. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function runProgram(program: string, argv: readonly string[]): Promise<Ended> {
  return new Promise((done) => {
    const child = execFile(program, argv, { timeout: 5_000, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : null;
      done({ code, stdout, stderr: stderr || (code === null ? (error?.message ?? "") : "") });
    });
    child.stdin?.end();
  });
}

/** stdout of a short program, stderr where it wrote nothing else; null: it is not there, or it failed. */
export async function outputOf(program: string, ...argv: readonly string[]): Promise<string | null> {
  const { code, stdout, stderr } = await runProgram(program, argv);
  return code === 0 ? stdout || stderr : null;
}

/** sbin too, which a user's PATH may lack. */
const systemFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Absolute path of a program; null: there is none. */
export async function find(program: string, path: string): Promise<string | null> {
  for (const folder of [...path.split(delimiter).filter(isAbsolute), ...systemFolders]) {
    const candidate = join(folder, program);
    const executable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (executable) return candidate;
  }
  return null;
}

/** Is the program there, does it run, and is it new enough? `least` null: any will do. */
export async function programFinding(
  name: string,
  options: { path: string; argv: readonly string[]; least: string | null; pack: string },
): Promise<Finding> {
  const path = await find(name, options.path);
  if (path === null) return { what: name, verdict: "missing", found: "-", remedy: apt(options.pack) };
  const version = versionIn(await outputOf(path, ...options.argv));
  if (version === null)
    return {
      what: name,
      verdict: "broken",
      found: `${path} does not tell its version`,
      remedy: `sudo apt-get install -y --reinstall ${options.pack}`,
    };
  if (options.least === null || !olderThan(version, options.least))
    return { what: name, verdict: "there", found: version, remedy: null };
  return {
    what: name,
    verdict: "too old",
    found: `${version} (ebb needs ${options.least})`,
    remedy: apt(options.pack),
  };
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
