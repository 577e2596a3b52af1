// Which shared libraries a program needs: its interpreter from the ELF header, the rest as that interpreter resolves them.

import { open } from "node:fs/promises";
import { EbbError } from "#model/errors.ts";

export type Run = (argv: readonly string[]) => Promise<{ readonly code: number; readonly stdout: string }>;

interface Elf {
  /** null: a library, or linked statically. */
  readonly interpreter: string | null;
  readonly machine: number;
}

const headerBytes = 64;
const programHeaderBytes = 56;
const maxProgramHeaders = 64;
const interpreterBytes = 256;
const PT_INTERP = 3;

/** null: not a 64-bit little-endian ELF file. Layout: elf(5). */
export async function readElf(path: string): Promise<Elf | null> {
  const file = await open(path, "r");
  try {
    const header = Buffer.alloc(headerBytes);
    const { bytesRead } = await file.read(header, 0, headerBytes, 0);
    if (bytesRead < headerBytes || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
      return null;
    const machine = header.readUInt16LE(18);
    const count = header.readUInt16LE(56);
    if (count > maxProgramHeaders || header.readUInt16LE(54) !== programHeaderBytes) return null;
    const table = Buffer.alloc(count * programHeaderBytes);
    await file.read(table, 0, table.length, Number(header.readBigUInt64LE(32)));
    for (let at = 0; at < table.length; at += programHeaderBytes) {
      if (table.readUInt32LE(at) !== PT_INTERP) continue;
      const name = Buffer.alloc(interpreterBytes);
      const { bytesRead: length } = await file.read(name, 0, interpreterBytes, Number(table.readBigUInt64LE(at + 8)));
      return { machine, interpreter: name.toString("latin1", 0, Math.min(length, name.indexOf(0))) };
    }
    return { machine, interpreter: null };
  } finally {
    await file.close();
  }
}

/** One after the other, each with its exit code behind it: a process of the spawner's for all of them, and not for each. */
const listAll = 'loader=$1; shift; for one do "$loader" --list "$one"; echo "= $?"; done';

/** Absolute paths of what `paths` (trusted programs or libraries of this machine) load, the loader included. */
export async function librariesOf(paths: readonly string[], loader: string, run: Run): Promise<string[]> {
  const { code, stdout } = await run(["/bin/sh", "-c", listAll, "sh", loader, ...paths]);
  // What it said of one, and its exit code, in turn.
  const said = stdout.split(/^= (\d+)\n/m);
  if (code !== 0 || said.length !== 2 * paths.length + 1)
    throw new EbbError("internal", `The libraries of ${paths[0]} cannot be found (/bin/sh failed).`);
  const found = new Set<string>();
  for (const [n, path] of paths.entries()) {
    const lines = said[2 * n]!.split("\n");
    if (said[2 * n + 1] === "0") for (const library of [loader, ...listed(path, lines)]) found.add(library);
    // "statically linked" is an answer as well.
    else if ((await readElf(path))?.interpreter !== null)
      throw new EbbError("internal", `The libraries of ${path} cannot be found (${loader} --list failed).`);
  }
  return [...found];
}

function listed(path: string, lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const missing = /^\s*(\S+) => not found/.exec(line);
    if (missing)
      throw new EbbError("internal", `${path} needs the library ${missing[1]}, which this machine does not have.`);
    return /^\s*\S+ => (\/\S+) \(0x/.exec(line)?.[1] ?? [];
  });
}
