// What the platform itself answers: health, a page for people, and the API by its handler.

import { EbbError } from "#model/errors.ts";
import type { PlatformHandler } from "./door.ts";
import type { Connection } from "./http1/connection.ts";
import type { Exchange } from "./http1/exchange.ts";
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
  exchange: Exchange,
  connection: Connection,
  options: PlatformOptions,
): void {
  const { request, outer } = inbound;
  if (destination.kind === "api") {
    const asksFirst = inbound.known.expect !== null;
    return withNodeObjects(exchange, connection, asksFirst, (incoming, response) =>
      options.platform(incoming, response, { outer }),
    );
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    const words = `${request.method} is not allowed here.`;
    return sendProblem(exchange, new EbbError("method_not_allowed", words), {
      allow: "GET, HEAD",
      close: inbound.known.expect !== null,
    });
  }
  const text = Buffer.from(destination.kind === "health" ? "ok\n" : page(options.version));
  exchange.send(200, plainText, text, inbound.known.expect !== null);
}

const plainText = [
  "content-type",
  "text/plain; charset=utf-8",
  "cache-control",
  "no-store",
  "x-content-type-options",
  "nosniff",
];

function page(version: string): string {
  return `ebb ${version}

Functions answer at their own host names: ebb ls lists them.
The API is at /api/v1, its description at /api/v1/openapi.json; it wants a token.
`;
}
