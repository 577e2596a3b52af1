// The connection for the first call of an instance, made before anybody calls: for whoever asks first, and only if nothing was said on it.

import type { Socket } from "node:net";
import type { SocketReader } from "../door.ts";

/** The call that an instance was started for comes at once; and servers give up on those that stay silent. */
const keptMs = 1_000;

/** One for all: what is read is used up, or copied, before the next read. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

export class EarlyConnection {
  readonly #socket: Socket;
  #reader: SocketReader | null = null;
  #free = true;

  constructor(connect: (onread: { readonly onread: SocketReader }) => Socket) {
    // Until it is taken its errors are nobody's; its end comes with the sandbox's.
    this.#socket = connect({ onread: { buffer: readBuffer, callback: this.#onRead } }).on("error", () => {});
  }

  /** Where nobody takes it. */
  dropSoon(): void {
    setTimeout(() => {
      if (this.#free) this.drop();
    }, keptMs).unref();
  }

  /** Without a reader it emits what comes. null: it was taken before, or has ended, or something was said on it. */
  take(reader?: SocketReader): Socket | null {
    if (!this.#free || this.#socket.destroyed) return null;
    this.#free = false;
    const emit = (bytes: number): boolean => this.#socket.push(Buffer.from(readBuffer.subarray(0, bytes)));
    this.#reader = reader ?? { buffer: readBuffer, callback: emit };
    return this.#socket;
  }

  drop(): void {
    this.#free = false;
    this.#socket.destroy();
  }

  readonly #onRead = (bytes: number, buffer: Buffer): boolean => {
    if (this.#reader !== null) return this.#reader.callback(bytes, buffer);
    // What is said before anybody asks is no answer.
    this.drop();
    return false;
  };
}
