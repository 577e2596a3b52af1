// The room: listeners, and what becomes of a request when it has passed the steps.

import { createServer, type IncomingMessage, type Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Activator, Call } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, newInvocationId } from "#model/ids.ts";
import { httpLimits } from "#model/limits.ts";
import type { Gateway, PlatformHandler } from "./door.ts";
import { TrustedProxies } from "./forwarded.ts";
import { AuthorityCache } from "./host.ts";
import { type Destination, Inbound, type StepContext } from "./inbound.ts";
import { IncomingBody } from "./incoming-body.ts";
import { answerPlatform } from "./platform.ts";
import { parserError, sendProblem, sendRawProblem } from "./problem.ts";
import { Reply } from "./reply.ts";
import { steps } from "./steps/steps.ts";
import { asksForUpgrade } from "./upgrade.ts";

export interface GatewayOptions extends Pick<StepContext, "access" | "mirror" | "clock" | "identifyLink"> {
  readonly activator: Pick<Activator, "invoke" | "depthIn">;
  /** /api/… and /metrics. */
  readonly platform: PlatformHandler;
  readonly tell: Tell;
  /** What users see, from --url; null: http://localhost and the port that is listened on. */
  readonly baseUrl: URL | null;
  /** CIDRs; see config.ts. */
  readonly trustProxy: readonly string[];
  readonly version: string;
}

export function createGateway(options: GatewayOptions): Gateway {
  return new HttpGateway(options);
}

class HttpGateway implements Gateway {
  readonly #options: GatewayOptions;
  readonly #context: StepContext;
  readonly #servers = new Set<Server>();
  /** Sockets that left HTTP: node:http's server no longer knows them. */
  readonly #joined = new Set<Duplex>();
  /** Whose framing cannot be trusted any more: what llhttp has already read behind a refused request is not served. */
  readonly #distrusted = new WeakSet<Duplex>();
  #closing = false;
  #port = 0;

  constructor(options: GatewayOptions) {
    const { access, activator, mirror, clock, identifyLink, baseUrl, trustProxy } = options;
    this.#options = options;
    const base = (baseUrl?.hostname ?? "localhost").replace(/\.$/, "");
    const authorities = new AuthorityCache();
    const trusted = new TrustedProxies(trustProxy);
    this.#context = { access, activator, mirror, clock, identifyLink, base, authorities, trusted };
  }

  async listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }> {
    const bound = await this.#listen(host, port, false);
    this.#port = bound.port;
    return bound;
  }

  listenInternal(host: string, port: number): Promise<{ readonly host: string; readonly port: number }> {
    return this.#listen(host, port, true);
  }

  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    const closed = [...this.#servers].map((server) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      server.close(() => resolve());
      server.closeIdleConnections();
      return promise;
    });
    const cancel = this.#options.clock.after(graceMs, () => {
      for (const server of this.#servers) server.closeAllConnections();
      for (const socket of this.#joined) socket.destroy();
    });
    await Promise.all(closed);
    cancel();
    this.#servers.clear();
  }

  async #listen(host: string, port: number, internal: boolean): Promise<{ host: string; port: number }> {
    const server = this.#server(internal);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
    server.listen({ host, port, backlog: 4_096 }, resolve);
    await promise;
    this.#servers.add(server);
    const { port: bound } = server.address() as AddressInfo;
    return { host, port: bound };
  }

  #server(internal: boolean): Server {
    const server = createServer({
      maxHeaderSize: httpLimits.requestHeadBytes,
      headersTimeout: httpLimits.headersTimeoutMs,
      keepAliveTimeout: httpLimits.keepAliveTimeoutMs,
      // A body may take as long as the function has; what bounds it is the invocation's timeout.
      requestTimeout: 0,
      connectionsCheckingInterval: 5_000,
      // Checked by the steps, with words of our own: one Host, and HTTP/1.0 with none for /healthz.
      requireHostHeader: false,
      insecureHTTPParser: false,
      noDelay: true,
      shouldUpgradeCallback: asksForUpgrade,
    });
    // 0: none is dropped silently; the steps count them.
    server.maxHeadersCount = 0;
    server.maxConnections = httpLimits.connections;
    server.on("request", (request, response) => this.#serve(request, response, internal, null));
    server.on("checkContinue", (request, response) => this.#serve(request, response, internal, null));
    server.on("checkExpectation", (request, response) => this.#serve(request, response, internal, null));
    server.on("upgrade", (request, socket, early) => this.#upgrade(request, socket, early, internal));
    server.on("connect", (_request, socket) => {
      socket.on("error", () => socket.destroy());
      sendRawProblem(socket, new EbbError("method_not_allowed", "CONNECT is not allowed here."));
    });
    server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      // Nothing can be said any more where the other side has gone, or an answer is half out.
      if (!socket.writable || error.code === "ECONNRESET" || (socket as Socket).bytesWritten > 0) socket.destroy();
      else sendRawProblem(socket, parserError(error.code));
    });
    return server;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, early: Buffer, internal: boolean): void {
    this.#joined.add(socket);
    socket.on("close", () => this.#joined.delete(socket));
    socket.on("error", () => socket.destroy());
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket as Socket);
    response.on("finish", () => socket.end());
    this.#serve(request, response, internal, early);
  }

  #serve(request: IncomingMessage, response: ServerResponse, internal: boolean, early: Buffer | null): void {
    if (this.#distrusted.has(request.socket)) return;
    const inbound = new Inbound(request, this.#context, { internal, upgrade: early !== null });
    try {
      for (const step of steps) {
        const problem = step(inbound, this.#context);
        if (problem) return this.#refuse(inbound, response, problem);
      }
      const destination = inbound.destination!;
      if (destination.kind === "workload") this.#invoke(inbound, destination, response, early);
      else if (early !== null)
        this.#refuse(inbound, response, new EbbError("bad_request", "Only workloads take WebSockets."));
      else answerPlatform(inbound, destination, response, this.#options);
    } catch (error) {
      this.#refuse(inbound, response, this.#defect(error));
    }
  }

  #refuse(inbound: Inbound, response: ServerResponse, problem: EbbError): void {
    if (response.headersSent) return void response.destroy();
    const anyOrigin = inbound.host.kind === "workload" || inbound.destination?.kind === "workload";
    const distrusted = unreadable.has(problem.status);
    if (distrusted) this.#distrusted.add(inbound.request.socket);
    // Where leave to send the body was asked for and not given, nobody knows whether it comes.
    const close = this.#closing || distrusted || inbound.known.expect !== null || inbound.upgrade;
    sendProblem(response, problem, { anyOrigin, close });
  }

  #invoke(
    inbound: Inbound,
    destination: Extract<Destination, { kind: "workload" }>,
    response: ServerResponse,
    early: Buffer | null,
  ): void {
    const { clock, activator } = this.#options;
    const { request, bodyBytes } = inbound;
    const { project, workload, viaPath } = destination;
    const id = newInvocationId(clock.wallMs());
    const asksFirst = inbound.known.expect === null ? null : response;
    const body = bodyBytes === 0 ? null : new IncomingBody(request, bodyBytes, asksFirst);
    const reply = new Reply(response, {
      invocation: id,
      base: this.#context.base,
      shared: viaPath && !inbound.internal,
      workloadUrl: viaPath ? this.#workloadUrl(project, workload) : "",
      anyOrigin: true,
      mustClose: () => this.#closing || early !== null || body?.withheld === true,
      defect: (error) => this.#defect(error),
      early,
    });
    const call: Call = {
      id,
      project,
      workload,
      trigger: inbound.internal ? "internal" : "http",
      method: request.method!,
      target: inbound.path + inbound.target.query,
      headers: inbound.headers,
      body,
      depth: inbound.depth,
      arrivedUs: inbound.arrivedUs,
      upgrade: early !== null,
    };
    reply.carry(activator.invoke(call, reply));
  }

  #workloadUrl(project: string, workload: string): string {
    const { baseUrl } = this.#options;
    const name = project === "default" ? workload : `${workload}--${project}`;
    const port = baseUrl === null ? `:${this.#port}` : baseUrl.port === "" ? "" : `:${baseUrl.port}`;
    return `${baseUrl?.protocol ?? "http:"}//${name}.${this.#context.base}${port}`;
  }

  /** Told as a fact; the caller gets an id to ask the operator with. */
  #defect(error: unknown): EbbError {
    const errorId = newErrorId();
    this.#options.tell({ kind: "defect", errorId, where: "gateway", error });
    return new EbbError("internal", `Something in ebb failed; its log has the rest under ${errorId}.`);
  }
}

/** Statuses of requests that could not be read as one thing. */
const unreadable = new Set([400, 413, 414, 431]);

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  switch (error.code) {
    case "EADDRINUSE":
      return new EbbError("conflict", `${host}:${port} is taken by another program; choose another with --listen.`);
    case "EADDRNOTAVAIL":
      return new EbbError("conflict", `${host} is no address of this machine; choose another with --listen.`);
    case "EACCES":
      return new EbbError(
        "conflict",
        `${host}:${port} may not be listened on; choose a port above 1023 with --listen.`,
      );
    default:
      return error;
  }
}
