// A load client that keeps every sample: keep-alive connections that each send the next request when the answer is complete.

import { connect, type Socket } from "node:net";

/** Where to connect: a TCP port of loopback, or a Unix socket. */
export type Target = { readonly port: number } | { readonly path: string };

export interface LoadResult {
  /** Of every answer, ascending. */
  readonly latenciesMs: Float64Array;
  readonly requestsPerSecond: number;
  readonly failures: number;
}

export interface LoadOptions {
  readonly connections: number;
  readonly durationMs: number;
  readonly host: string;
  readonly path?: string;
}

/** Loads for `durationMs`; resolves when every connection has its last answer. */
export async function load(
  target: Target,
  { connections, durationMs, host, path = "/" }: LoadOptions,
): Promise<LoadResult> {
  const request = Buffer.from(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
  const samples: number[] = [];
  let failures = 0;
  const began = performance.now();
  const until = began + durationMs;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = new Client(target);
      await client.open();
      while (performance.now() < until) {
        const sent = performance.now();
        const status = await client.ask(request);
        samples.push(performance.now() - sent);
        if (status !== 200) failures += 1;
      }
      client.close();
    }),
  );
  const tookMs = performance.now() - began;
  return {
    latenciesMs: Float64Array.from(samples).toSorted(),
    requestsPerSecond: (samples.length / tookMs) * 1000,
    failures,
  };
}

export function percentile(ascending: Float64Array | readonly number[], percent: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor((ascending.length * percent) / 100))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(
    values.toSorted((a, b) => a - b),
    50,
  );
}

/** One connection, one request at a time. Understands content-length and chunked, no more: the servers are known. */
class Client {
  readonly #target: Target;
  #socket!: Socket;
  #pending: Buffer = Buffer.alloc(0);
  #done: (status: number) => void = () => {};
  #fail: (error: Error) => void = () => {};

  constructor(target: Target) {
    this.#target = target;
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket =
        "path" in this.#target
          ? connect(this.#target.path, resolve)
          : connect({ port: this.#target.port, host: "127.0.0.1", noDelay: true }, resolve);
      this.#socket.on("data", (chunk: Buffer) => this.#read(chunk));
      this.#socket.on("error", (error) => (reject(error), this.#fail(error)));
      this.#socket.on("close", () => this.#fail(new Error("the server closed the connection")));
    });
  }

  ask(request: Buffer): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#fail = reject;
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#fail = () => {};
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const headEnd = this.#pending.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const head = this.#pending.toString("latin1", 0, headEnd).toLowerCase();
    const length = /\r\ncontent-length: *(\d+)/.exec(head)?.[1];
    const end = length === undefined ? endOfChunked(this.#pending, headEnd + 4) : headEnd + 4 + Number(length);
    if (end < 0 || this.#pending.length < end) return;
    this.#pending = this.#pending.subarray(end);
    this.#done(Number(head.slice(9, 12)));
  }
}

function endOfChunked(bytes: Buffer, from: number): number {
  const last = bytes.indexOf("0\r\n\r\n", Math.max(from, bytes.length - 64));
  return last < 0 ? -1 : last + 5;
}
