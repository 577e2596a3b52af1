// For tests: runs a one-off program as a plain child process, mounts replaced in its arguments and environment. Isolates nothing.

import { execFile, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Fleet } from "#fleet/door.ts";
import type { OneOffResult } from "#sandbox/door.ts";
import type { Spawner } from "#spawner/door.ts";
import type { Toolbox } from "./transpile.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

export const toolbox: Toolbox = {
  node: process.execPath,
  programs: fileURLToPath(new URL("toolbox/", import.meta.url)),
  esbuild: `${root}node_modules/esbuild`,
  esbuildProgram: `${root}node_modules/@esbuild/${process.platform}-${process.arch}`,
};

/** What the spawner does for builds. */
export const plainSpawner: Pick<Spawner, "exec"> = {
  exec: ([program = "", ...argv]) =>
    new Promise((done) => {
      execFile(program, argv, (error, stdout, stderr) => done({ code: error === null ? 0 : 1, stdout, stderr }));
    }),
};

export const plainRun: Fleet["run"] = (spec) => {
  const outside = (word: string): string => {
    const mount = spec.mounts.find(({ target }) => word === target || word.startsWith(`${target}/`));
    return mount ? mount.source + word.slice(mount.target.length) : word;
  };
  const argv = spec.argv.map(outside);
  const env = Object.fromEntries(Object.entries(spec.env).map(([name, value]) => [name, outside(value)]));
  return new Promise<OneOffResult>((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: spec.timeoutMs,
    });
    const stdout: Uint8Array[] = [];
    let stderr = "";
    child.stdout.on("data", (chunk: Uint8Array) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Uint8Array) => (stderr += Buffer.from(chunk).toString()));
    child.on("error", reject);
    child.on("close", (code) => {
      const bytes = Buffer.concat(stdout);
      if (code === 0 && bytes.length <= spec.outputBytes) resolve({ ok: true, stdout: bytes, stderr });
      else
        resolve({
          ok: false,
          stderr,
          failure: { fault: "function", message: `it ended with ${code}: ${stderr}`, stack: null, hint: null },
        });
    });
  });
};
