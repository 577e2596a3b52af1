// The room: listeners, and what becomes of a request when it has passed the steps.

import type { Activator, Call } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, newInvocationId } from "#model/ids.ts";
import type { Gateway, PlatformHandler } from "./door.ts";
import { plainAddress, TrustedProxies } from "./forwarded.ts";
import { AuthorityCache } from "./host.ts";
import type { ClientConnection, ClientExchange } from "./client-exchange.ts";
import type { Connection, TakeSocket } from "./http1/connection.ts";
import type { Exchange } from "./http1/exchange.ts";
import { Http1Server } from "./http1/server.ts";
import { type Destination, Inbound, type StepContext } from "./inbound.ts";
import { IncomingBody } from "./incoming-body.ts";
import { clientNetwork, connectionBounds } from "./places.ts";
import { answerPlatform } from "./platform.ts";
import { parserError, sendProblem } from "./problem.ts";
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
  /** What the process may have open: sockets are files. */
  readonly openFilesMax: number;
}

export function createGateway(options: GatewayOptions): Gateway {
  return new HttpGateway(options);
}

class HttpGateway implements Gateway {
  readonly #options: GatewayOptions;
  readonly #context: StepContext;
  readonly #servers = new Set<Http1Server>();
  #closing = false;
  #port = 0;

  constructor(options: GatewayOptions) {
    const { access, activator, mirror, clock, identifyLink, baseUrl, trustProxy } = options;
    this.#options = options;
    const base = (baseUrl?.hostname ?? "localhost").replace(/\.$/, "");
    const authorities = new AuthorityCache(base);
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
    const closed = [...this.#servers].map((server) => server.close());
    const cancel = this.#options.clock.after(graceMs, () => {
      for (const server of this.#servers) server.destroyAll();
    });
    await Promise.all(closed);
    cancel();
    this.#servers.clear();
  }

  async #listen(host: string, port: number, internal: boolean): Promise<{ host: string; port: number }> {
    const isClosing = (): boolean => this.#closing;
    const server = new Http1Server(
      {
        get closing() {
          return isClosing();
        },
        request: (exchange, connection) => {
          // Behind answers that are owed the connection stays with HTTP, and the request is answered as it is.
          const leaves = exchange.hasTurn && asksForUpgrade(exchange.head);
          if (!leaves) this.#serve(exchange, connection, internal, null);
          return leaves;
        },
        upgrade: (exchange, take, connection) => this.#serve(exchange, connection, internal, take),
        multiplexed: (exchange, connection) => this.#serve(exchange, connection, internal, null),
        unreadable: (code, exchange, connection) => this.#unreadable(code, exchange, connection),
      },
      {
        clock: this.#options.clock,
        partyOf: internal ? (peer) => this.#projectAt(peer) : (peer) => this.#clientAt(peer),
        connections: connectionBounds(internal ? "internal" : "public", this.#options.openFilesMax),
      },
    );
    const bound = await server.listen(host, port).catch((error: NodeJS.ErrnoException) => {
      throw listenError(error, host, port);
    });
    this.#servers.add(server);
    return { host, port: bound };
  }

  /** Whose connection it is on ebb.internal. What is nobody's (any more), and what has no link, is one party. */
  #projectAt(peer: string): string {
    return this.#context.identifyLink(plainAddress(peer))?.project ?? "";
  }

  /** A trusted proxy's connections are those of many. */
  #clientAt(peer: string): string | null {
    return this.#context.trusted.has(peer) ? null : clientNetwork(peer);
  }

  /** `exchange`: whose body it is in; null: it is in no request. */
  #unreadable(code: string, exchange: Exchange | null, connection: Connection): void {
    const problem = parserError(code);
    if (exchange === null) connection.lastWords((last) => sendProblem(last, problem, { close: true }));
    else exchange.bodyFailed(problem);
  }

  #serve(exchange: ClientExchange, connection: ClientConnection, internal: boolean, upgrade: TakeSocket | null): void {
    const options = { internal, upgrade: upgrade !== null };
    const inbound = new Inbound(exchange.head, connection.peer, this.#context, options);
    try {
      for (const step of steps) {
        const problem = step(inbound, this.#context);
        if (problem) return this.#refuse(inbound, exchange, connection, problem);
      }
      const destination = inbound.destination!;
      if (destination.kind === "workload") this.#invoke(inbound, destination, exchange, upgrade);
      else if (upgrade !== null)
        this.#refuse(inbound, exchange, connection, new EbbError("bad_request", "Only workloads take WebSockets."));
      else answerPlatform(inbound, destination, exchange, connection, this.#options);
    } catch (error) {
      this.#refuse(inbound, exchange, connection, this.#defect(error));
    }
  }

  #refuse(inbound: Inbound, exchange: ClientExchange, connection: ClientConnection, problem: EbbError): void {
    if (exchange.started) return exchange.destroy();
    const anyOrigin = inbound.host.kind === "workload" || inbound.destination?.kind === "workload";
    const distrusted = distrustedStatuses.has(problem.status);
    if (distrusted) connection.distrust(exchange);
    // Where leave to send the body was asked for and not given, nobody knows whether it comes.
    const close = distrusted || inbound.known.expect !== null || inbound.upgrade;
    sendProblem(exchange, problem, { anyOrigin, close });
  }

  #invoke(
    inbound: Inbound,
    destination: Extract<Destination, { kind: "workload" }>,
    exchange: ClientExchange,
    upgrade: TakeSocket | null,
  ): void {
    const { clock, activator } = this.#options;
    const { request, bodyBytes } = inbound;
    const { project, workload, viaPath } = destination;
    const id = newInvocationId(clock.wallMs());
    const body = bodyBytes === 0 ? null : new IncomingBody(exchange, bodyBytes, inbound.known.expect !== null);
    const reply = new Reply(exchange, {
      invocation: id,
      base: this.#context.base,
      shared: viaPath && !inbound.internal,
      workloadUrl: viaPath ? this.#workloadUrl(project, workload) : "",
      body,
      upgrade,
      defect: this.#defect,
    });
    const call: Call = {
      id,
      project,
      workload,
      trigger: inbound.internal ? "internal" : "http",
      method: request.method,
      target: inbound.path + inbound.target.query,
      headers: inbound.headers,
      body,
      depth: inbound.depth,
      arrivedUs: inbound.arrivedUs,
      upgrade: upgrade !== null,
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
  readonly #defect = (error: unknown): EbbError => {
    const errorId = newErrorId();
    this.#options.tell({ kind: "defect", errorId, where: "gateway", error });
    return new EbbError("internal", `Something in ebb failed; its log has the rest under ${errorId}.`);
  };
}

/** Statuses of requests that could not be read as one thing. */
const distrustedStatuses = new Set([400, 413, 414, 431]);

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
