// The room: our HTTP API over control/ and the rooms' queries. It does not listen; the gateway hands it requests.

import { fastifySwagger } from "@fastify/swagger";
import { fastify } from "fastify";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { PlatformHandler } from "#gateway/door.ts";
import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";
import { knownError, sendProblem } from "./problems.ts";
import type { ApiRooms } from "./rooms.ts";
import { guard, type Api, type RouteRow } from "./route.ts";
import { deployRoutes } from "./routes/deploys.ts";
import { instanceRoutes } from "./routes/instance.ts";
import { logRoutes } from "./routes/logs.ts";
import { projectRoutes } from "./routes/projects.ts";
import { recordRoutes } from "./routes/records.ts";
import { runRoutes } from "./routes/runs.ts";
import { secretRoutes } from "./routes/secrets.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { workloadRoutes } from "./routes/workloads.ts";
import { compilersFactory } from "./validate.ts";

export interface ApiRoom {
  /** For the gateway: everything under /api/, and /metrics. */
  readonly handle: PlatformHandler;
  /** Every route with who may; the generated test goes through it. */
  readonly rows: readonly RouteRow[];
  /** Generated from the schemas. */
  openapi(): object;
  /** For tests: fastify's own. */
  readonly app: Api;
  stop(): Promise<void>;
}

export async function createApi(rooms: ApiRooms): Promise<ApiRoom> {
  const app: Api = fastify({
    logger: false,
    bodyLimit: httpLimits.apiBodyBytes,
    exposeHeadRoutes: false,
    // Given here and not set later: fastify loads its own at once where there are none, 100 modules and 8 MiB.
    schemaController: { compilersFactory },
    routerOptions: { maxParamLength: 1_000, caseSensitive: true, ignoreTrailingSlash: false },
    frameworkErrors: (error, _request, reply) => {
      // Typed for any provider: what fastify itself refuses before a route is known (a malformed %-sequence).
      void sendProblem(reply, new EbbError("bad_request", error.message));
    },
  }).withTypeProvider<TypeBoxTypeProvider>();
  const rows: RouteRow[] = [];
  app.setErrorHandler((error, request, reply) => {
    const where = `${request.method} ${request.routeOptions.url ?? "an unknown route"}`;
    return sendProblem(reply, knownError(error, where, rooms.tell));
  });
  await app.register(fastifySwagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "ebb",
        version: rooms.version,
        description: "Errors are application/problem+json (RFC 9457) with a stable `code`.",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
  });
  // What the API answers is somebody's own: no cache keeps it, no browser guesses what it is.
  app.addHook("onSend", (_request, reply, _payload, done) => {
    reply.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
    done();
  });
  guard(app, rows, rooms);
  app.setNotFoundHandler((request, reply) => sendProblem(reply, notFound(rows, request.method, request.url, reply)));
  for (const add of [
    instanceRoutes,
    projectRoutes,
    workloadRoutes,
    deployRoutes,
    secretRoutes,
    tokenRoutes,
    recordRoutes,
    runRoutes,
    logRoutes,
  ])
    add(app, rooms);
  await app.ready();
  return {
    handle: (request, response) => app.routing(request, response),
    rows,
    openapi: () => app.swagger(),
    app,
    stop: () => app.close(),
  };
}

/** Behind the same hook as every route: without a valid token even this says 401. */
function notFound(
  rows: readonly RouteRow[],
  method: string,
  target: string,
  reply: { header(name: string, value: string): unknown },
): EbbError {
  const path = target.split("?", 1)[0]!;
  const allowed = rows.filter(({ url }) => matches(url, path)).map((row) => row.method);
  if (allowed.length === 0) return new EbbError("not_found", `the API has no ${path.slice(0, 200)}`);
  reply.header("allow", [...new Set(allowed)].join(", "));
  return new EbbError("method_not_allowed", `${method} is not allowed here; ${allowed.join(", ")} is`);
}

function matches(pattern: string, path: string): boolean {
  const parts = path.split("/");
  const wanted = pattern.split("/");
  return wanted.length === parts.length && wanted.every((part, i) => part.startsWith(":") || part === parts[i]);
}
