// What the platform itself answers: health, a page for people, the way to the console, preflights of private workloads,
// and the API by its handler.

import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";
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
  if (destination.kind === "preflight") {
    response.writeHead(204, preflightHeaders(destination.method, destination.headers));
    return void response.end();
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    const words = `${request.method} is not allowed here.`;
    return sendProblem(response, new EbbError("method_not_allowed", words), {
      allow: "GET, HEAD",
      close: inbound.known.expect !== null,
    });
  }
  if (destination.kind === "elsewhere") {
    response.writeHead(307, { ...unkept, location: destination.url, "content-length": 0 });
    return void response.end();
  }
  const atConsole = inbound.host.kind === "platform" && inbound.host.at === "console";
  const text = destination.kind === "health" ? "ok\n" : page(options.version, atConsole);
  response.writeHead(200, {
    ...unkept,
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    "x-content-type-options": "nosniff",
  });
  response.end(text);
}

const unkept = { "cache-control": "no-store" } as const;

/** Any origin, for a private workload's caller shows a token and never a cookie; whether its answer may be read, it says itself. */
function preflightHeaders(method: string, headers: string | null): OutgoingHttpHeaders {
  return {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": method,
    ...(headers === null ? {} : { "access-control-allow-headers": headers }),
    "access-control-max-age": String(httpLimits.preflightAgeSeconds),
    vary: "access-control-request-method, access-control-request-headers",
  };
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
