// What a command reads and writes: its process's streams, or those of a test.

import type { Readable, Writable } from "node:stream";

/** Each is asked for when it is needed: a process makes its own at the first use. */
export interface Streams {
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
}
