// What a program that runs to its end leaves: its bounded output and how it ended.

import { constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { EbbError } from "#model/errors.ts";
import type { Exit, OneOff, OneOffResult } from "./door.ts";

interface Read {
  readonly bytes: Buffer;
  readonly tooMuch: boolean;
}

export interface Reader {
  /** Resolves at the end of the stream; what is more than the bound is read and dropped. */
  readonly all: Promise<Read>;
}

/** Waits for its end, at most as long as it may take. `words` are the engine's own, where it could not start. */
export async function oneOffResult(
  spec: OneOff,
  over: Promise<{ readonly exit: Exit }>,
  readers: { readonly stdout: Reader; readonly stderr: Reader },
  kill: () => void,
): Promise<OneOffResult> {
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    kill();
  }, spec.timeoutMs);
  const { exit } = await over;
  clearTimeout(timer);
  const [stdout, stderr] = await Promise.all([readers.stdout.all, readers.stderr.all]);
  const words = stderr.bytes.toString();
  const fail = (message: string): OneOffResult => ({
    ok: false,
    stderr: words,
    failure: { fault: "function", message, stack: null, hint: null },
  });
  if (timedOut) return fail(`It took longer than ${spec.timeoutMs / 1000} s.`);
  if (exit.reason === "lost") throw new EbbError("internal", exit.message);
  if (exit.reason !== "exited" || exit.code !== 0) return fail(exit.message);
  if (stdout.tooMuch) return fail(`It wrote more than ${spec.outputBytes} bytes.`);
  return { ok: true, stdout: stdout.bytes, stderr: words };
}

/** Reads to the end and keeps as much as may be kept. */
export function readFifo(path: string, limitBytes: number): Reader {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  const parts: Buffer[] = [];
  let held = 0;
  let tooMuch = false;
  const all = new Promise<Read>((resolve) => {
    socket.on("data", (part: Buffer) => {
      tooMuch ||= held + part.length > limitBytes;
      const kept = part.subarray(0, limitBytes - held);
      held += kept.length;
      parts.push(kept);
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ bytes: Buffer.concat(parts), tooMuch }));
  });
  return { all };
}
