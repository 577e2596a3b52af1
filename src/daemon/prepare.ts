// What is checked and made before any room starts: the right to isolate, and the data directory.

import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { EbbError } from "#model/errors.ts";
import type { DaemonConfig } from "../config.ts";

/** EbbError with one sentence for the operator, naming the ways on. */
export function prepare(config: DaemonConfig): void {
  if (config.isolation === "container" && process.getuid?.() !== 0)
    throw new EbbError(
      "forbidden",
      "isolating functions needs root: sudo ./ebb up; or, for development only (nothing is isolated): ./ebb up --isolation none",
    );
  try {
    // 0711: an engine that has become a sandbox's own user passes through it to the code, and lists nothing.
    mkdirSync(config.dataDirectory, { recursive: true, mode: 0o711 });
  } catch (error) {
    const code = codeOf(error);
    const why = reasons[code === "ENOENT" ? aboveOf(config.dataDirectory) : code] ?? code;
    throw new EbbError(
      "conflict",
      `the data directory ${config.dataDirectory} cannot be used: ${why}; choose another with --data`,
    );
  }
}

const reasons: Readonly<Record<string, string>> = {
  EEXIST: "it is not a directory",
  ENOTDIR: "it is not a directory",
  EACCES: "no permission",
  EROFS: "its file system is read-only",
  ENOSPC: "its disk is full",
  EDQUOT: "its disk is full",
};

/** A recursive mkdir says ENOENT for whatever is the matter above: what the nearest folder that exists says of itself. */
function aboveOf(path: string): string {
  let above = dirname(path);
  while (!existsSync(above)) above = dirname(above);
  try {
    accessSync(above, constants.W_OK);
    return "ENOENT";
  } catch (error) {
    return codeOf(error);
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "";
}
