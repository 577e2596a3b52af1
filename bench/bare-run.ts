// The floor of a job's run: a bare `crun run` of the same image's files, to its first line or to its end.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createBundle } from "./bare-image.ts";
import { createSmallParent } from "./small-parent.ts";

export interface BareRun {
  /** Milliseconds from the order to spawn the engine to the first line that it prints. */
  firstLine(): Promise<number>;
  /** Milliseconds that so many runs take, by so many loops of a shell at the same time. */
  many(runs: number, atOnce: number): Promise<number>;
  remove(): Promise<void>;
}

/** As bare-image.ts has it: on the host's network, and none of what ebb adds. */
export function createBareRun(
  engine: string,
  layers: readonly Buffer[],
  args: readonly string[],
  env: readonly string[],
): BareRun {
  const bundle = createBundle(layers, args, env);
  const parent = createSmallParent();
  let count = 0;
  return {
    async firstLine() {
      const began = performance.now();
      const id = `ebb-bench-run-${process.pid}-${count++}`;
      const { firstLine, exited } = parent.start([engine, "run", "--bundle", bundle.folder, id]);
      await firstLine;
      const tookMs = performance.now() - began;
      await succeeded(exited.then((code) => [code]));
      return tookMs;
    },
    async many(runs, atOnce) {
      const loop = 'i=0; while [ $i -lt "$3" ]; do "$0" run --bundle "$1" "$2-$i" || exit 1; i=$((i + 1)); done';
      const began = performance.now();
      // By a shell: to fork this process takes as long as the engine does.
      const loops = Array.from({ length: atOnce }, (_, n) => {
        const share = String(Math.floor(runs / atOnce) + (n < runs % atOnce ? 1 : 0));
        const args = ["-c", loop, engine, bundle.folder, `ebb-bench-runs-${process.pid}-${count++}`, share];
        return once(spawn("/bin/sh", args, { stdio: ["ignore", "ignore", "inherit"] }), "exit");
      });
      for (const exited of loops) await succeeded(exited);
      return performance.now() - began;
    },
    async remove() {
      await parent.stop();
      bundle.remove();
    },
  };
}

async function succeeded(exited: Promise<unknown[]>): Promise<void> {
  const [code] = await exited;
  if (code !== 0) throw new Error(`the bare run ended with ${String(code)}`);
}
