// What the programs of a build say: bytes to stdout, all of them before they go on.

import { writeSync } from "node:fs";

/** @param {Uint8Array} bytes */
export function write(bytes) {
  for (let written = 0; written < bytes.length;) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      // A pipe whose reader is slow; there is nothing else to do here but to wait for it.
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}
