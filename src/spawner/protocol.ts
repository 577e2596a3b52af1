// What the main thread and the spawner process say to each other: one JSON value a line over a socket pair.

import type { LaunchSpec, Make, NetworkChange, ProcessExit, Undo } from "./door.ts";

export type Operation =
  | { readonly op: "ready" }
  | { readonly op: "launch"; readonly spec: LaunchSpec }
  | { readonly op: "signal"; readonly id: string; readonly signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT" }
  | { readonly op: "exec"; readonly argv: readonly string[]; readonly stdin: string | null; readonly timeoutMs: number }
  /** Kills what the request `exec` runs; its own answer says how that ended. */
  | { readonly op: "cancel"; readonly exec: number }
  | { readonly op: "fifos"; readonly paths: readonly string[] }
  | { readonly op: "share"; readonly path: string; readonly owner: string }
  | {
      readonly op: "make";
      readonly owner: string;
      readonly things: readonly Make[];
      readonly undo: readonly Undo[];
    }
  | { readonly op: "unmake"; readonly owner: string }
  | {
      readonly op: "bind";
      readonly source: string;
      readonly target: string;
      readonly readOnly: boolean;
      readonly owner: string;
    }
  | { readonly op: "unmount"; readonly path: string }
  | {
      readonly op: "tmpfs";
      readonly target: string;
      readonly bytes: number;
      readonly mode: string;
      readonly owner: string;
    }
  | {
      readonly op: "cgroup";
      readonly paths: readonly string[];
      readonly limits: ReadonlyArray<{ readonly path: string; readonly value: string }>;
      readonly owner: string;
    }
  | { readonly op: "network"; readonly changes: readonly NetworkChange[] }
  | { readonly op: "unpin"; readonly paths: readonly string[] }
  | { readonly op: "untouched"; readonly path: string }
  | { readonly op: "nft"; readonly script: string }
  | { readonly op: "owe"; readonly undo: readonly Undo[]; readonly owner: "spawner" | "ground" }
  | { readonly op: "rest" }
  | { readonly op: "stop" };

export type Request = Operation & { readonly n: number };

/** What the supervisor is asked. */
export type KeptOperation =
  | Extract<Operation, { readonly op: "launch" | "signal" | "make" | "unmake" | "stop" }>
  /** What runs now, when all that was asked before has been done; refused where it is about to leave. */
  | { readonly op: "hello" };

/** What it is told and does not answer: whoever tells it waits for nothing. */
export type KeptNotice =
  | { readonly op: "begun"; readonly id: string }
  | { readonly op: "forget"; readonly name: string };

export type KeptRequest = (KeptOperation & { readonly n: number }) | KeptNotice;

/** The answer to `hello`. */
export interface Hello {
  readonly runDir: string;
  readonly running: ReadonlyArray<{ readonly name: string; readonly id: string; readonly begunMs: number | null }>;
}

export type Reply =
  | { readonly n: number; readonly ok: true; readonly value?: unknown }
  /** `words`: for whoever called; the process goes on. */
  | { readonly n: number; readonly ok: false; readonly words: string }
  | { readonly exit: string; readonly how: ProcessExit }
  /** For the operator. */
  | { readonly problem: string };

/** Splits a stream of bytes into lines. The peer is ebb itself, so the bound only turns a defect into an error. */
export function createLineReader(line: (text: string) => void, limitBytes = 64 * 1024 * 1024): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let held = 0;
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      const end = chunk.subarray(from, at);
      const text = parts.length ? Buffer.concat([...parts, end]).toString() : end.toString();
      parts = [];
      held = 0;
      from = at + 1;
      line(text);
    }
    if (from >= chunk.length) return;
    held += chunk.length - from;
    if (held > limitBytes) throw new RangeError(`a message of more than ${limitBytes} bytes`);
    parts.push(Buffer.from(chunk.subarray(from)));
  };
}
