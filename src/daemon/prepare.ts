// What is checked and made before any room starts: the right to isolate, and the data directory.

import { mkdirSync } from "node:fs";
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
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const why =
      code === "EEXIST" || code === "ENOTDIR" ? "it is not a directory" : code === "EACCES" ? "no permission" : code;
    throw new EbbError(
      "conflict",
      `the data directory ${config.dataDirectory} cannot be used: ${why}; choose another with --data`,
    );
  }
}
