// Routes about ebb itself: version, identity, status, metrics, its own description.

import { EbbError } from "#model/errors.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { IdentityView, LoopDelayQuery, LoopDelayView, Status, Version } from "../schemas.ts";
import { Type } from "../type.ts";

export function instanceRoutes(app: Api, rooms: ApiRooms): void {
  app.get(
    "/api/v1/version",
    {
      config: { access: { needs: "public", project: "all" } },
      schema: { summary: "Which ebb answers here", tags: ["ebb"], response: { 200: Version } },
    },
    () => ({ name: "ebb" as const, version: rooms.version, api: "v1" as const }),
  );

  app.get(
    "/api/v1/openapi.json",
    {
      config: { access: { needs: "token", project: "own" } },
      schema: { hide: true },
    },
    () => app.swagger(),
  );

  app.get(
    "/api/v1/identity",
    {
      config: { access: { needs: "token", project: "own" } },
      schema: { summary: "Who this token is", tags: ["ebb"], response: { 200: IdentityView } },
    },
    (request) => {
      const { name, project, scope } = who(request);
      return { name, project, scope };
    },
  );

  app.get(
    "/api/v1/status",
    {
      config: { access: { needs: "read", project: "all" } },
      schema: { summary: "Instances and memory of the whole machine", tags: ["ebb"], response: { 200: Status } },
    },
    () => {
      const { running, starting, memoryBytes, memoryLimitBytes, pool } = rooms.fleet.state();
      return { version: rooms.version, instances: { running, starting }, memoryBytes, memoryLimitBytes, pool };
    },
  );

  app.get(
    "/api/v1/status/loop-delay",
    {
      config: { access: { needs: "admin", project: "all" } },
      schema: {
        summary: "How late the main loop runs, measured for so many seconds",
        tags: ["ebb"],
        querystring: LoopDelayQuery,
        response: { 200: LoopDelayView },
      },
    },
    async (request) => {
      if (!rooms.measureLoopDelay) throw new EbbError("not_found", "this daemon does not measure its loop");
      return rooms.measureLoopDelay(request.query.seconds ?? 1);
    },
  );

  app.get(
    "/metrics",
    {
      config: { access: { needs: "read", project: "all" } },
      schema: { summary: "Prometheus text", tags: ["ebb"], produces: ["text/plain"], response: { 200: Type.String() } },
    },
    async (_request, reply) => {
      const text = await rooms.telemetry.metrics();
      return reply.type("text/plain; version=0.0.4; charset=utf-8").send(text);
    },
  );
}
