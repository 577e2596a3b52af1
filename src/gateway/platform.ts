// What the platform itself answers: health, a page for people, the way to the console, preflights of private workloads,
// and the API by its handler.

import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";
import type { PlatformHandler } from "./door.ts";
import type { ClientConnection, ClientExchange } from "./client-exchange.ts";
import { Connection } from "./http1/connection.ts";
import { Exchange } from "./http1/exchange.ts";
import { withNodeObjects } from "./http1/node-objects.ts";
import type { Destination, Inbound } from "./inbound.ts";
import { sendProblem } from "./problem.ts";

export interface PlatformOptions {
  readonly platform: PlatformHandler;
  readonly version: string;
}

export function answerPlatform(
  inbound: Inbound,
  destination: Exclude<Destination, { kind: "workload" }>,
  exchange: ClientExchange,
  connection: ClientConnection,
  options: PlatformOptions,
): void {
  const { request, outer } = inbound;
  if (destination.kind === "api") {
    if (!(exchange instanceof Exchange) || !(connection instanceof Connection))
      return sendProblem(exchange, new EbbError("http_version", "The API speaks HTTP/1.1; ask it with that."));
    const asksFirst = inbound.known.expect !== null;
    return withNodeObjects(exchange, connection, asksFirst, (incoming, response) =>
      options.platform(incoming, response, { outer }),
    );
  }
  // Where leave to send a body was asked for and not given, nobody knows whether it comes.
  const close = inbound.known.expect !== null;
  if (destination.kind === "preflight")
    return exchange.send(204, preflightHeaders(destination.method, destination.headers), noBytes, close);
  if (request.method !== "GET" && request.method !== "HEAD") {
    const words = `${request.method} is not allowed here.`;
    return sendProblem(exchange, new EbbError("method_not_allowed", words), {
      allow: "GET, HEAD",
      close,
    });
  }
  if (destination.kind === "elsewhere")
    return exchange.send(307, [...unkept, "location", destination.url], noBytes, close);
  const atConsole = inbound.host.kind === "platform" && inbound.host.at === "console";
  const text = destination.kind === "health" ? "ok\n" : page(options.version, atConsole);
  exchange.send(200, plainText, Buffer.from(text), close);
}

const noBytes = new Uint8Array(0);
const unkept = ["cache-control", "no-store"];
const plainText = [...unkept, "content-type", "text/plain; charset=utf-8", "x-content-type-options", "nosniff"];

/** Any origin, for a private workload's caller shows a token and never a cookie; whether its answer may be read, it says itself. */
function preflightHeaders(method: string, names: string | null): string[] {
  const allowed = names === null ? [] : ["access-control-allow-headers", names];
  const headers = ["access-control-allow-origin", "*", "access-control-allow-methods", method, ...allowed];
  headers.push("access-control-max-age", String(httpLimits.preflightAgeSeconds));
  headers.push("vary", "access-control-request-method, access-control-request-headers");
  return headers;
}

function page(version: string, atConsole: boolean): string {
  if (atConsole)
    return `ebb ${version}

This version has no web console. The command line has all of it: ebb ls, ebb logs, ebb usage; ebb help lists the rest.
`;
  return `ebb ${version}

Functions answer at their own host names: ebb ls lists them.
The API is at /api/v1, its description at /api/v1/openapi.json; it wants a token.
`;
}
