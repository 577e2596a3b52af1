// A load client that keeps every sample: keep-alive connections that each send the next request when the answer is complete.

import { connect, type Socket } from "node:net";

/** Where to connect: a TCP port of loopback, or a Unix socket. */
export type Target = { readonly port: number } | { readonly path: string };

/** Of one answer, head and body. */
const answerMaxBytes = 64 * 1024;

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
  /** JSON, ASCII: it is posted. */
  readonly body?: string;
}

/** Loads for `durationMs`; resolves when every connection has its last answer. */
export async function load(
  target: Target,
  { connections, durationMs, host, path = "/", body }: LoadOptions,
): Promise<LoadResult> {
  const head = `${path} HTTP/1.1\r\nhost: ${host}\r\n`;
  const type = "content-type: application/json\r\n";
  const request =
    body === undefined ? `GET ${head}\r\n` : `POST ${head}${type}content-length: ${body.length}\r\n\r\n${body}`;
  const samples: number[] = [];
  let failures = 0;
  const began = performance.now();
  const until = began + durationMs;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      let sent = 0;
      const next = () => {
        sent = performance.now();
        if (sent < until) return client.ask(request);
        client.close();
        resolve();
      };
      const answered = (status: number) => {
        samples.push(performance.now() - sent);
        if (status !== 200) failures += 1;
        next();
      };
      const client = new Client(target, answered, reject);
      client.open(next);
    });
  await Promise.all(Array.from({ length: connections }, one));
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

/**
 * One connection, one request at a time. Understands content-length and chunked, no more: the servers are known. It reads
 * into one buffer and calls back, without streams' events and promises: it shares the machine with what it measures.
 */
export class Client {
  readonly #target: Target;
  readonly #answered: (status: number) => void;
  readonly #failed: (error: Error) => void;
  readonly #buffer = Buffer.allocUnsafeSlow(answerMaxBytes);
  #bytes = 0;
  #socket!: Socket;

  constructor(target: Target, answered: (status: number) => void, failed: (error: Error) => void) {
    this.#target = target;
    this.#answered = answered;
    this.#failed = failed;
  }

  open(opened: () => void): void {
    const onread = { buffer: Buffer.allocUnsafeSlow(answerMaxBytes), callback: this.#read };
    const to =
      "path" in this.#target
        ? { path: this.#target.path }
        : { port: this.#target.port, host: "127.0.0.1", noDelay: true };
    this.#socket = connect({ ...to, onread }, opened);
    this.#socket.on("error", this.#failed);
    this.#socket.on("close", () => this.#failed(new Error("the server closed the connection")));
  }

  ask(request: string): void {
    this.#socket.write(request, "latin1");
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  readonly #read = (length: number, chunk: Uint8Array): boolean => {
    this.#buffer.set(chunk.subarray(0, length), this.#bytes);
    this.#bytes += length;
    const text = this.#buffer.toString("latin1", 0, this.#bytes);
    const headEnd = text.indexOf("\r\n\r\n");
    if (headEnd < 0) return true;
    const size = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1];
    const whole = size === undefined ? text.endsWith("0\r\n\r\n") : text.length >= headEnd + 4 + Number(size);
    if (!whole) return true;
    this.#bytes = 0;
    this.#answered(Number(text.slice(9, 12)));
    return true;
  };
}
