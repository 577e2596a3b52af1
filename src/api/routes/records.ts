// Routes of what ran: invocations, usage, the audit.

import type { FastifyReply } from "fastify";
import type { Static } from "typebox";
import { EbbError } from "#model/errors.ts";
import { isInvocationId } from "#model/ids.ts";
import { recordLimits } from "#model/limits.ts";
import { type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import {
  AuditQuery,
  AuditRow,
  InProject,
  InvocationRow,
  OfInvocation,
  OfWorkload,
  RecordQuery,
  UsageQuery,
  UsageView,
} from "../schemas.ts";
import { streamRows } from "../stream.ts";
import { Type } from "../type.ts";
import { usageDays, usagePages } from "../usage.ts";
import { auditRow, invocationRow, timeOrNull, usageRow } from "../views.ts";

const dayMs = 86_400_000;

export function recordRoutes(app: Api, rooms: ApiRooms): void {
  app.get(
    "/api/v1/projects/:project/workloads/:workload/invocations",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Invocations of a workload, newest first",
        tags: ["records"],
        params: OfWorkload,
        querystring: RecordQuery,
        response: { 200: Type.Array(InvocationRow) },
      },
    },
    async (request) => {
      const { since, limit = 100 } = request.query;
      const query = { ...request.params, limit, ...(since === undefined ? {} : { sinceMs: since }) };
      return (await rooms.store.invocations(query)).map(invocationRow);
    },
  );

  app.get(
    "/api/v1/projects/:project/invocations/:id",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: { summary: "One invocation", tags: ["records"], params: OfInvocation, response: { 200: InvocationRow } },
    },
    async (request) => {
      const { project, id } = request.params;
      const found = isInvocationId(id) ? await rooms.store.invocations({ project, id, limit: 1 }) : [];
      if (!found[0])
        throw new EbbError("not_found", `there is no invocation "${id.slice(0, 40)}" in project "${project}"`);
      return invocationRow(found[0]);
    },
  );

  async function usage(reply: FastifyReply, project: string | null, query: Static<typeof UsageQuery>) {
    const nowMs = rooms.clock.wallMs();
    const span = { sinceMs: query.since ?? nowMs - 30 * dayMs, untilMs: query.until ?? nowMs };
    // A store that cannot be asked says so here, where it is still an answer.
    const { oldestRecordMs } = await rooms.store.retention();
    const rest = { oldestRecord: timeOrNull(oldestRecordMs), keptDays: recordLimits.keptDays };
    return streamRows(reply, rest, usageDays(usagePages(rooms.store, { project, ...span })), usageRow);
  }

  app.get(
    "/api/v1/projects/:project/usage",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "What ran, by workload and day",
        tags: ["records"],
        params: InProject,
        querystring: UsageQuery,
        response: { 200: UsageView },
      },
    },
    (request, reply) => usage(reply, request.params.project, request.query),
  );

  app.get(
    "/api/v1/usage",
    {
      config: { access: { needs: "read", project: "all" } },
      schema: {
        summary: "What ran in every project",
        tags: ["records"],
        querystring: UsageQuery,
        response: { 200: UsageView },
      },
    },
    (request, reply) => usage(reply, null, request.query),
  );

  async function audit(project: string | null, { since = 0, limit = 100 }: Static<typeof AuditQuery>) {
    return (await rooms.store.audits({ project, sinceMs: since, limit })).map(auditRow);
  }

  app.get(
    "/api/v1/projects/:project/audit",
    {
      config: { access: { needs: "admin", project: "path" } },
      schema: {
        summary: "Who did what in a project, newest first",
        tags: ["records"],
        params: InProject,
        querystring: AuditQuery,
        response: { 200: Type.Array(AuditRow) },
      },
    },
    (request) => audit(request.params.project, request.query),
  );

  app.get(
    "/api/v1/audit",
    {
      config: { access: { needs: "admin", project: "all" } },
      schema: {
        summary: "Who did what",
        tags: ["records"],
        querystring: AuditQuery,
        response: { 200: Type.Array(AuditRow) },
      },
    },
    (request) => audit(null, request.query),
  );
}
