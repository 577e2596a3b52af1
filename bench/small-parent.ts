// Starts programs from a process that is small: to fork the bench itself, which holds images in its memory, takes longer than an engine's start.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface SmallParent {
  /** argv has no blanks; stdin is /dev/null, and stdout is read by lines. One after the other. */
  start(argv: readonly string[]): Started;
  /** When all that it started has ended. */
  stop(): Promise<void>;
}

export interface Started {
  /** What it prints first; null: it ended without. */
  readonly firstLine: Promise<string | null>;
  /** Its exit code. */
  readonly exited: Promise<number>;
}

interface Running {
  readonly firstLine: PromiseWithResolvers<string | null>;
  readonly exited: PromiseWithResolvers<number>;
}

/** A shell that reads a command a line. Each has a subshell, which says its end; that is a second fork of the shell, some 0.3 ms. */
const loop = 'set -f; while read -r n words; do ($words; echo "over $n $?") & done; wait';

export function createSmallParent(): SmallParent {
  const shell = spawn("/bin/sh", ["-c", loop], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(shell, "exit");
  const running = new Map<string, Running>();
  let count = 0;
  const over = (n: string, code: number): void => {
    const one = running.get(n);
    running.delete(n);
    one?.firstLine.resolve(null);
    one?.exited.resolve(code);
  };
  createInterface({ input: shell.stdout }).on("line", (line) => {
    const [, n, code] = /^over (\d+) (\d+)$/.exec(line) ?? [];
    if (n !== undefined) over(n, Number(code));
    else for (const { firstLine } of running.values()) firstLine.resolve(line);
  });
  shell.once("exit", () => {
    for (const n of running.keys()) over(n, 255);
  });
  return {
    start(argv) {
      if (argv.some((word) => /\s/.test(word) || word === "")) throw new Error(`a blank in ${argv.join(" ")}`);
      const n = String(count++);
      const one: Running = { firstLine: Promise.withResolvers(), exited: Promise.withResolvers() };
      running.set(n, one);
      shell.stdin.write(`${n} ${argv.join(" ")}\n`);
      return { firstLine: one.firstLine.promise, exited: one.exited.promise };
    },
    async stop() {
      shell.stdin.end();
      await gone;
    },
  };
}
