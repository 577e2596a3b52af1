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

export const nothing = new Uint8Array(0);

/**
 * A frame: its kind (a letter), a number, and two texts by their lengths.
 * @param {string} kind @param {number} index @param {Uint8Array} code @param {Uint8Array} map
 */
export function frame(kind, index, code, map) {
  const head = Buffer.alloc(13);
  head.write(kind, 0, "latin1");
  head.writeUInt32BE(index, 1);
  head.writeUInt32BE(code.length, 5);
  head.writeUInt32BE(map.length, 9);
  for (const bytes of [head, code, map]) write(bytes);
}

/** What its author is told: the first of them. @param {{ text: string, location: Record<string, any> | null }[]} errors */
export function errorFrame(errors) {
  const told = errors.slice(0, 50).map(({ text, location }) => ({
    text,
    file: location?.["file"] ?? null,
    line: location?.["line"] ?? null,
    column: location?.["column"] ?? null,
    lineText: location?.["lineText"]?.slice(0, 400) ?? null,
  }));
  frame("E", 0, Buffer.from(JSON.stringify({ count: errors.length, errors: told })), nothing);
}
