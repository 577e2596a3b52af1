// What the platform itself answers: health, a page for people, and the API by its handler.

import type { ServerResponse } from "node:http";
import { EbbError } from "#model/errors.ts";
import type { PlatformHandler } from "./door.ts";
import type { Destination, Inbound } from "./inbound.ts";
import { sendProblem } from "./problem.ts";

export interface PlatformOptions {
  readonly platform: PlatformHandler;
  readonly version: string;
}

export function answerPlatform(
  inbound: Inbound,
  destination: Exclude<Destination, { kind: "workload" }>,
  response: ServerResponse,
  options: PlatformOptions,
): void {
  const { request, outer } = inbound;
  if (destination.kind === "api") {
    if (inbound.known.expect !== null) response.writeContinue();
    return options.platform(request, response, { outer });
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    const words = `${request.method} is not allowed here.`;
    return sendProblem(response, new EbbError("method_not_allowed", words), {
      allow: "GET, HEAD",
      close: inbound.known.expect !== null,
    });
  }
  const text = destination.kind === "health" ? "ok\n" : page(options.version);
  response.writeHead(200, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(text);
}

function page(version: string): string {
  return `ebb ${version}

Functions answer at their own host names: ebb ls lists them.
The API is at /api/v1, its description at /api/v1/openapi.json; it wants a token.
`;
}
