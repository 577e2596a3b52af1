// What the suite needs of an instance, whoever started it: a plain process, or a real sandbox.

import net from "node:net";
import { once } from "node:events";
import { ClientConnection, type ClientRequest, type ClientResponse } from "./client.ts";

export interface Assignment {
  nonce: string;
  instance: string;
  code: string;
  entry: string | null;
  handler: string | null;
  signature: string | null;
  concurrency: number;
  env: Record<string, string>;
  limits: { timeoutMs: number; bufferedBodyBytes: number; memoryMb?: number; loadMs?: number };
  check: boolean;
  cache?: "use" | "make" | null;
}

export interface Ready {
  entry: string;
  handler: string | null;
  signature: string;
  done: "told" | "response";
  shares?: boolean;
  phases: { bootMs: number; importMs: number };
}

export interface Failed {
  message: string;
  stack: string | null;
  file: string | null;
  line: number | null;
  column: number | null;
  hint: string | null;
}

export interface Frame {
  i: string | null;
  s: "out" | "err";
  t: number;
  l?: string;
  m: string;
}

/** What a launcher gives: the process is running, or about to, and the socket is listening. */
export interface Launched {
  readonly socketPath: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly output: Output;
  /** Makes a folder of code visible to it; answers its path there. */
  give(code: string): Promise<string>;
  signal(name: NodeJS.Signals): void;
  /** Ends it, whatever it is doing, and leaves nothing. */
  stop(): Promise<void>;
}

export type Launcher = () => Promise<Launched>;

/** Text that arrives; a test waits for what it wants to see instead of sleeping. */
export class Output {
  stdout = "";
  stderr = "";
  frameText = "";
  #waiting = new Set<() => void>();

  add(stream: "stdout" | "stderr" | "frameText", text: string): void {
    this[stream] += text;
    for (const check of this.#waiting) check();
  }

  /** Frames whose lines are complete. */
  get frames(): Frame[] {
    const lines = this.frameText.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Frame);
  }

  async until(condition: (output: this) => boolean): Promise<void> {
    if (condition(this)) return;
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!condition(this)) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
    });
  }
}

let ids = 0;
/** 26 characters, as ebb's are. */
export function newId(): string {
  ids += 1;
  return `t${String(ids).padStart(25, "0")}`;
}

export const nonce = "n0nce";
const assignHead = "POST /ebb/v1/assign HTTP/1.1\r\nhost: ebb\r\ncontent-type: application/json\r\n";

export class Instance {
  readonly launched: Launched;
  readonly output: Output;
  readonly told: string[] = [];
  readonly connections = new Set<ClientConnection>();
  control: net.Socket | null = null;
  #lines: string[] = [];
  #buffer = "";
  #waiting = new Set<() => void>();
  #controlEnded = false;
  #announced = false;

  constructor(launched: Launched) {
    this.launched = launched;
    this.output = launched.output;
  }

  /** The daemon's connection; the first of all. */
  async openControl(): Promise<net.Socket> {
    const socket = net.connect(this.launched.socketPath);
    await once(socket, "connect");
    this.control = socket;
    return socket;
  }

  /** The head of an assignment that comes later. */
  async announce(): Promise<void> {
    const socket = this.control ?? (await this.openControl());
    socket.write(`${assignHead}transfer-encoding: chunked\r\n\r\n`);
    this.#announced = true;
  }

  async assign(assignment: Assignment): Promise<{ ready: Ready } | { failed: Failed }> {
    const socket = this.control ?? (await this.openControl());
    const code = await this.launched.give(assignment.code);
    const body = Buffer.from(JSON.stringify({ ...assignment, code }));
    if (!this.#announced) socket.write(`${assignHead}content-length: ${body.length}\r\n\r\n`);
    else socket.write(`${body.length.toString(16)}\r\n`);
    socket.write(body);
    if (this.#announced) socket.write("\r\n0\r\n\r\n");
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => this.#controlData(chunk.toString()));
    socket.on("close", () => {
      this.#controlEnded = true;
      this.#wake();
    });
    await this.#until(() => this.#lines.length > 0 || this.#controlEnded);
    const first = this.#lines.shift();
    if (first === undefined) throw new Error(`no answer to the assignment; stderr: ${this.output.stderr}`);
    return JSON.parse(first) as { ready: Ready } | { failed: Failed };
  }

  #controlData(text: string): void {
    this.#buffer += text;
    // The stream is chunked: one chunk a line, which is all this needs to know.
    for (;;) {
      const end = this.#buffer.indexOf("\n");
      if (end < 0) return;
      const line = this.#buffer.slice(0, end).trim();
      this.#buffer = this.#buffer.slice(end + 1);
      if (!line.startsWith("{")) continue;
      const parsed = JSON.parse(line) as { done?: string };
      if (parsed.done === undefined) this.#lines.push(line);
      else this.told.push(parsed.done);
      this.#wake();
    }
  }

  #wake(): void {
    for (const check of this.#waiting) check();
  }

  async #until(condition: () => boolean): Promise<void> {
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

  /** Resolves when the control stream has said that the invocation is over. */
  async done(id: string): Promise<void> {
    await this.#until(() => this.told.includes(id));
  }

  /** The pieces of compiled code that it has told by its end. */
  async cache(): Promise<string[]> {
    await this.#until(() => this.#controlEnded);
    return this.#lines.map((line) => (JSON.parse(line) as { cache: string }).cache);
  }

  async connect(): Promise<ClientConnection> {
    const connection = await ClientConnection.open(this.launched.socketPath);
    this.connections.add(connection);
    return connection;
  }

  /** One request on a connection of its own. */
  async request(request: ClientRequest): Promise<ClientResponse> {
    const connection = await this.connect();
    try {
      return await connection.request(request);
    } finally {
      connection.close();
      this.connections.delete(connection);
    }
  }

  async stop(): Promise<void> {
    for (const connection of this.connections) connection.close();
    this.control?.destroy();
    await this.launched.stop();
  }
}
