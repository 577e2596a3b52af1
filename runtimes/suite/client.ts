// A plain HTTP/1.1 client over a Unix socket that shows what is on the wire: raw headers, chunks as they come, the close.

import net from "node:net";
import { once } from "node:events";

export interface ClientRequest {
  method?: string;
  target?: string;
  headers?: ReadonlyArray<readonly [string, string]>;
  body?: string | Uint8Array;
  /** What ebb adds; made up where left out. */
  id?: string;
  trigger?: string;
  deadlineMs?: number;
}

export interface ClientResponse {
  status: number;
  headers: Array<[string, string]>;
  body: Buffer;
  text: string;
  /** The connection ended before the answer did. */
  cut: boolean;
}

export function header(response: { headers: Array<[string, string]> }, name: string): string | undefined {
  return response.headers.find(([key]) => key.toLowerCase() === name)?.[1];
}

export function headersOf(response: { headers: Array<[string, string]> }, name: string): string[] {
  return response.headers.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
}

let counter = 0;

/** As ebb sends it. */
export function requestHead(request: ClientRequest, framing: string): string {
  counter += 1;
  const id = request.id ?? `r${String(counter).padStart(25, "0")}`;
  const extra = (request.headers ?? []).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return (
    `${request.method ?? (request.body === undefined ? "GET" : "POST")} ${request.target ?? "/"} HTTP/1.1\r\nhost: hello.localhost:8080\r\n` +
    `ebb-invocation-id: ${id}\r\nebb-trigger: ${request.trigger ?? "http"}\r\nebb-deadline-ms: ${request.deadlineMs ?? 30_000}\r\n` +
    `traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n${extra}${framing}\r\n`
  );
}

export class ClientConnection {
  readonly socket: net.Socket;
  ended = false;
  /** Put together when they are looked at: with every one that comes it would be quadratic. */
  #parts: Buffer[] = [];
  #length = 0;
  #waiting = new Set<() => void>();

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      this.#parts.push(chunk);
      this.#length += chunk.length;
      this.#wake();
    });
    socket.on("close", () => {
      this.ended = true;
      this.#wake();
    });
  }

  static async open(path: string): Promise<ClientConnection> {
    const socket = net.connect({ path, allowHalfOpen: false });
    await once(socket, "connect");
    return new ClientConnection(socket);
  }

  get received(): Buffer {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0]!;
  }

  set received(bytes: Buffer) {
    this.#parts = [bytes];
    this.#length = bytes.length;
  }

  #wake(): void {
    for (const check of this.#waiting) check();
  }

  async until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!condition()) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
    });
  }

  head(request: ClientRequest, framing: string): string {
    return requestHead(request, framing);
  }

  /** Sends a whole request. */
  send(request: ClientRequest): void {
    const body = request.body === undefined ? Buffer.alloc(0) : Buffer.from(request.body as Uint8Array);
    const framing = request.body === undefined ? "" : `content-length: ${body.length}\r\n`;
    this.socket.write(Buffer.concat([Buffer.from(requestHead(request, framing), "latin1"), body]));
  }

  async request(request: ClientRequest): Promise<ClientResponse> {
    this.send(request);
    return this.response(request.method === "HEAD");
  }

  /** The head of the next answer; what follows stays in `received`. */
  async responseHead(): Promise<{ status: number; headers: Array<[string, string]> }> {
    await this.until(() => this.received.includes("\r\n\r\n") || this.ended);
    const end = this.received.indexOf("\r\n\r\n");
    if (end < 0) throw new Error(`the connection closed before an answer: ${JSON.stringify(this.received.toString())}`);
    const lines = this.received.toString("latin1", 0, end).split("\r\n");
    this.received = this.received.subarray(end + 4);
    const status = Number(/^HTTP\/1\.1 (\d{3}) ?/.exec(lines[0] ?? "")?.[1]);
    const headers = lines.slice(1).map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).replaceAll(/^[\t ]+|[\t ]+$/g, "")];
    });
    return status === 100 ? this.responseHead() : { status, headers };
  }

  async response(bodyless = false): Promise<ClientResponse> {
    const { status, headers } = await this.responseHead();
    const length = header({ headers }, "content-length");
    const none = bodyless || status === 204 || status === 304;
    const result = (body: Buffer, cut: boolean): ClientResponse => ({
      status,
      headers,
      body,
      text: body.toString(),
      cut,
    });
    if (none) return result(Buffer.alloc(0), false);
    if (header({ headers }, "transfer-encoding") === "chunked") {
      const parts: Buffer[] = [];
      for (;;) {
        const chunk = await this.chunk();
        if (chunk === null) return result(Buffer.concat(parts), true);
        if (chunk.length === 0) return result(Buffer.concat(parts), false);
        parts.push(chunk);
      }
    }
    const wanted = length === undefined ? Number.POSITIVE_INFINITY : Number(length);
    await this.until(() => this.#length >= wanted || this.ended);
    const body = this.received.subarray(0, wanted);
    this.received = this.received.subarray(body.length);
    return result(body, length !== undefined && body.length < wanted);
  }

  /** The next chunk; empty: the last; null: cut. */
  async chunk(): Promise<Buffer | null> {
    await this.until(() => this.received.includes("\r\n") || this.ended);
    const end = this.received.indexOf("\r\n");
    if (end < 0) return null;
    const size = Number.parseInt(this.received.toString("latin1", 0, end), 16);
    await this.until(() => this.#length >= end + 2 + size + 2 || this.ended);
    if (this.received.length < end + 2 + size + 2) return null;
    const chunk = this.received.subarray(end + 2, end + 2 + size);
    this.received = this.received.subarray(end + 2 + size + 2);
    return chunk;
  }

  close(): void {
    this.socket.destroy();
  }
}
