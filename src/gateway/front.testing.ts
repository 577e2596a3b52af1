// A gateway over a real activator and functions on Unix sockets, for tests that speak bytes to it.

import { connect, type Socket } from "node:net";
import { World, testRevision } from "#activator/world.testing.ts";
import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import type { Revision } from "#model/workload.ts";
import type { Gateway } from "./door.ts";
import { createGateway, type GatewayOptions } from "./gateway.ts";

const token = (project: string): Identity => ({ name: "t", project, scope: "invoke", instance: null });

/** Tokens: "good" may invoke in default, "other" in another project. Credentials: "cred-INSTANCE". */
const access: GatewayOptions["access"] = {
  authenticate: (text) => (text === "good" ? token("default") : text === "other" ? token("other") : null),
  authorize: (identity, _needs, project) => {
    if (identity === null) return new EbbError("unauthenticated", "A token is wanted.");
    return identity.project === project ? null : new EbbError("forbidden", "Not of this project.");
  },
  looksLikeOurs: (authorization) => authorization.includes("ebb_"),
  byCredential: (text) =>
    text.startsWith("cred-") ? { name: "i", project: "default", scope: "invoke", instance: text.slice(5) } : null,
};

export class Front {
  readonly world = new World();
  readonly gateway: Gateway;
  port = 0;
  internalPort = 0;
  /** Requests that reached the API, as "METHOD url". */
  readonly api: string[] = [];

  constructor(options: Partial<GatewayOptions> = {}) {
    const { world } = this;
    this.gateway = createGateway({
      access,
      activator: world.activator,
      mirror: {
        workload: (project, name) => {
          const revision = world.revisions.get(`${project}/${name}`);
          return revision ? { workload: { ...revision, current: revision.number, updatedMs: 0 }, revision } : null;
        },
      },
      clock: world.clock,
      identifyLink: () => null,
      platform: (request, response) => {
        this.api.push(`${request.method} ${request.url}`);
        response.end("api");
      },
      tell: (fact) => void world.facts.push(fact),
      baseUrl: null,
      trustProxy: [],
      version: "1.2.3",
      openFilesMax: 1_000,
      ...options,
    });
  }

  async listen(): Promise<this> {
    ({ port: this.port } = await this.gateway.listen("127.0.0.1", 0));
    ({ port: this.internalPort } = await this.gateway.listenInternal("127.0.0.1", 0));
    return this;
  }

  async stop(): Promise<void> {
    await this.gateway.close(0);
    await this.world.stop();
  }

  /** A function that answers what it saw: first line, headers and body, as JSON. */
  async echo(settings: Parameters<typeof testRevision>[0], workload = "hello"): Promise<Revision> {
    const revision = this.world.deploy(testRevision({ concurrency: 10, ...settings }, 1, workload));
    await this.world.start(revision, (request, response) => {
      let body = "";
      request.on("data", (chunk: Buffer) => void (body += chunk.toString("latin1")));
      request.on("end", () => {
        const { method, url, headers, rawHeaders } = request;
        response.end(JSON.stringify({ method, url, headers, rawHeaders, body }));
      });
    });
    return revision;
  }

  open(port = this.port): Socket {
    return connect({ port, host: "127.0.0.1", noDelay: true });
  }

  /** Sends bytes, and answers everything that comes until the other side ends or is silent after a complete answer. */
  async raw(text: string, options: { internal?: boolean; answers?: number } = {}): Promise<string> {
    const socket = this.open(options.internal ? this.internalPort : this.port);
    const { promise, resolve } = Promise.withResolvers<void>();
    let received = "";
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
      if (completeAnswers(received) >= (options.answers ?? 1)) resolve();
    });
    socket.on("close", () => resolve());
    socket.on("error", () => resolve());
    socket.write(text, "latin1");
    await promise;
    socket.destroy();
    return received;
  }

  async get(path: string, headers: Record<string, string> = {}, internal = false): Promise<RawAnswer> {
    const lines = Object.entries({ host: "hello.localhost", ...headers }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    return readAnswer(await this.raw(`GET ${path} HTTP/1.1\r\n${lines.join("")}\r\n`, { internal }));
  }
}

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
  /** The problem's code; null: it is none. */
  readonly code: string | null;
  readonly json: Record<string, never>;
}

export function readAnswer(text: string): RawAnswer {
  const at = text.indexOf("\r\n\r\n");
  const [head, body] = [text.slice(0, at).toLowerCase(), text.slice(at + 4)];
  const json = /^\s*[{[]/.test(body) ? (JSON.parse(body) as Record<string, never>) : {};
  const code = head.includes("application/problem+json") ? String(json["code"]) : null;
  return { status: Number(text.slice(9, 12)), head, body, code, json };
}

function completeAnswers(text: string): number {
  let count = 0;
  let rest = text;
  for (;;) {
    const at = rest.indexOf("\r\n\r\n");
    if (at < 0) return count;
    const head = rest.slice(0, at).toLowerCase();
    if (head.startsWith("http/1.1 100")) {
      rest = rest.slice(at + 4);
      continue;
    }
    const length = /\r\ncontent-length: (\d+)/.exec(head)?.[1];
    const last = rest.indexOf("0\r\n\r\n", at);
    const end = head.startsWith("http/1.1 204")
      ? at + 4
      : length !== undefined
        ? at + 4 + Number(length)
        : head.includes("chunked") && last >= 0
          ? last + 5
          : Infinity;
    if (rest.length < end) return count;
    rest = rest.slice(end);
    count++;
  }
}
