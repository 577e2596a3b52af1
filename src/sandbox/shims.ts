// What is started in a sandbox before it knows what it will run: the runtime's shim, as runtimes/runtimes.json names it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EbbError } from "#model/errors.ts";
import { v8HeapOptions } from "#lib/v8-heap.ts";
import type { RuntimeName } from "#model/workload.ts";

export interface Shims {
  argvOf(runtime: Exclude<RuntimeName, "custom">, memoryMb: number): readonly string[];
}

interface Manifest {
  readonly root: string;
  readonly runtimes: Readonly<
    Record<string, { readonly argv: readonly string[] | null; readonly interpreter: string | null } | undefined>
  >;
}

/** Reads the manifest once; `folder` is ours, so it is trusted. */
export function readShims(folder: string): Shims & { outside(argv: readonly string[], interpreter: string): string[] } {
  const manifest: Manifest = JSON.parse(readFileSync(join(folder, "runtimes.json"), "utf8"));
  return {
    argvOf: (runtime, memoryMb) => {
      const [interpreter, ...rest] = manifest.runtimes[runtime]?.argv ?? [];
      if (interpreter === undefined)
        throw new EbbError("internal", `runtimes.json does not say how ${runtime} is started.`);
      return runtime === "python3" ? [interpreter, ...rest] : [interpreter, ...v8HeapOptions(memoryMb), ...rest];
    },
    outside: ([, ...rest], interpreter) => [
      interpreter,
      ...rest.map((word) => (word.startsWith(`${manifest.root}/`) ? folder + word.slice(manifest.root.length) : word)),
    ],
  };
}

/** In every sandbox; the revision's own environment comes with the assignment. */
export const baseEnv: Readonly<Record<string, string>> = {
  PATH: "/usr/local/bin:/usr/bin:/bin",
  HOME: "/tmp",
  LANG: "C.UTF-8",
  TZ: "UTC",
};
