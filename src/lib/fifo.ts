// Reads a FIFO as it fills, without a thread of the pool: opened for both directions, so that it neither waits for a writer nor ends with one.

import { constants, fstatSync, openSync, closeSync, readSync } from "node:fs";
import { Socket } from "node:net";

/** One buffer for all FIFOs of this thread: a callback is done with it when it returns. */
const buffer = Buffer.allocUnsafe(64 * 1024);
/** Bytes that a drain takes at most: a pipe's worth, several times over (somebody may still write). */
const drainBytes = 4 * 1024 * 1024;

/** Opens without waiting. Throws where it is not a FIFO: the sandbox cannot make the folder's entries, but a mistake could. */
export function openFifo(path: string): number {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  if (!fstatSync(fd).isFIFO()) {
    closeSync(fd);
    throw new Error(`${path} is not a FIFO`);
  }
  return fd;
}

export class Fifo {
  readonly #fd: number;
  readonly #socket: Socket;
  readonly #data: (bytes: Buffer) => void;
  #closed = false;

  /** `data`: the bytes are good until it returns. */
  constructor(path: string, data: (bytes: Buffer) => void) {
    this.#data = data;
    this.#fd = openFifo(path);
    this.#socket = new Socket({
      fd: this.#fd,
      readable: true,
      writable: false,
      onread: {
        buffer,
        callback: (length) => {
          if (!this.#closed) this.#data(buffer.subarray(0, length));
          return true;
        },
      },
    });
    this.#socket.on("error", () => undefined);
    this.#socket.resume();
  }

  /** Reads now what is in it. */
  drain(): void {
    for (let taken = 0; !this.#closed && taken < drainBytes;) {
      let length: number;
      try {
        length = readSync(this.#fd, buffer);
      } catch {
        return; // EAGAIN: it is empty
      }
      if (length === 0) return;
      taken += length;
      this.#data(buffer.subarray(0, length));
    }
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}
