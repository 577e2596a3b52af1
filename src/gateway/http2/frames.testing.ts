// Frames of HTTP/2 as bytes, for tests that send what no library would.

import { once } from "node:events";
import type { Socket } from "node:net";
import { until } from "#activator/world.testing.ts";

export const types = {
  data: 0,
  headers: 1,
  rst: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const flags = { endStream: 1, ack: 1, endHeaders: 4 } as const;

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export function frame(type: number, flag: number, stream: number, payload: Uint8Array | string = ""): Buffer {
  const body = typeof payload === "string" ? Buffer.from(payload, "latin1") : Buffer.from(payload);
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flag, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Literals without indexing and without Huffman (RFC 7541, 6.2.2), whatever is in them. */
export function block(fields: ReadonlyArray<readonly [name: string, value: string]>): Buffer {
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0]), text(name), text(value)])));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const lengths: number[] = [];
  if (bytes.length < 127) lengths.push(bytes.length);
  else {
    lengths.push(127);
    let rest = bytes.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) lengths.push((rest % 128) + 128);
    lengths.push(rest);
  }
  return Buffer.concat([Buffer.from(lengths), bytes]);
}

export function request(
  stream: number,
  fields: ReadonlyArray<readonly [name: string, value: string]>,
  flag: number = flags.endStream | flags.endHeaders,
): Buffer {
  return frame(types.headers, flag, stream, block(fields));
}

export interface Received {
  readonly type: number;
  readonly flag: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** A client that sends bytes and reads frames. */
export class RawHttp2 {
  readonly socket: Socket;
  readonly frames: Received[] = [];
  closed = false;
  #rest = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => undefined).on("close", () => (this.closed = true));
  }

  static async open(socket: Socket): Promise<RawHttp2> {
    const raw = new RawHttp2(socket);
    if (socket.connecting) await once(socket, "connect");
    socket.write(Buffer.concat([preface, frame(types.settings, 0, 0)]));
    await until(() => raw.frames.some(({ type }) => type === types.settings), "the server's settings");
    socket.write(frame(types.settings, flags.ack, 0));
    return raw;
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (this.#rest.length < 9) return;
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const [type, flag, stream] = [this.#rest[3]!, this.#rest[4]!, this.#rest.readUInt32BE(5)];
      this.frames.push({ type, flag, stream, payload: this.#rest.subarray(9, 9 + length) });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }

  /** What the server said when it ended the connection; null: nothing yet. */
  get goaway(): number | null {
    return this.frames.findLast(({ type }) => type === types.goaway)?.payload.readUInt32BE(4) ?? null;
  }

  of(stream: number): Received[] {
    return this.frames.filter((one) => one.stream === stream);
  }

  /** Of a stream: why it was reset; null: it was not. */
  rst(stream: number): number | null {
    return (
      this.of(stream)
        .find(({ type }) => type === types.rst)
        ?.payload.readUInt32BE(0) ?? null
    );
  }

  body(stream: number): string {
    return Buffer.concat(
      this.of(stream).flatMap(({ type, payload }) => (type === types.data ? [payload] : [])),
    ).toString();
  }

  /** The stream is reset or ended, or the connection is. */
  over(stream: number): boolean {
    if (this.closed || this.goaway !== null || this.rst(stream) !== null) return true;
    return this.of(stream).some(({ type, flag }) => type <= types.headers && (flag & flags.endStream) !== 0);
  }
}
