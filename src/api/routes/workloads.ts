// Routes of workloads and their revisions.

import { EbbError } from "#model/errors.ts";
import type { Revision, Workload } from "#model/workload.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { InProject, OfWorkload, RevisionRow, RollbackBody, WorkloadRow, WorkloadView } from "../schemas.ts";
import { streamArray } from "../stream.ts";
import { Type } from "../type.ts";
import { errorsLastHour, usagePages } from "../usage.ts";
import { revisionRow, workloadRow, workloadView, type WorkloadFacts } from "../views.ts";

const hourMs = 3_600_000;

interface Found {
  readonly workload: Workload;
  readonly revision: Revision;
}

export function workloadRoutes(app: Api, rooms: ApiRooms): void {
  async function errorsOf(of: { project: string; workload?: string }): Promise<Map<string, number>> {
    const nowMs = rooms.clock.wallMs();
    const query = { ...of, sinceMs: nowMs - 2 * hourMs, untilMs: nowMs, withErrors: true } as const;
    return errorsLastHour(usagePages(rooms.store, query), nowMs);
  }

  function factsOf({ workload, revision }: Found, errors: Map<string, number>): WorkloadFacts {
    return {
      workload,
      revision,
      fleet: rooms.fleet.workloadState(workload),
      load: rooms.activator.load(workload),
      urls: revision.kind === "job" ? { url: null, pathUrl: null } : rooms.urlsOf(workload),
      scaled: rooms.autoscaler.scaled(workload),
      running: rooms.jobs.running(workload),
      errorsLastHour: errors.get(workload.workload) ?? 0,
    };
  }

  function find(project: string, name: string): Found {
    const found = rooms.mirror.workload(project, name);
    if (!found) throw new EbbError("not_found", `there is no workload "${name}" in project "${project}"`);
    return found;
  }

  app.get(
    "/api/v1/projects/:project/workloads",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "What is deployed",
        tags: ["workloads"],
        params: InProject,
        response: { 200: Type.Array(WorkloadRow) },
      },
    },
    async (request, reply) => {
      const { project } = request.params;
      if (!rooms.mirror.project(project)) throw new EbbError("not_found", `there is no project "${project}"`);
      const errors = await errorsOf({ project });
      const all = [...rooms.mirror.workloads(project)].toSorted((a, b) =>
        a.workload.workload < b.workload.workload ? -1 : 1,
      );
      return streamArray(reply, all, (found) => workloadRow(factsOf(found, errors)));
    },
  );

  app.get(
    "/api/v1/projects/:project/workloads/:workload",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Effective settings and their sources, instances, last error",
        tags: ["workloads"],
        params: OfWorkload,
        response: { 200: WorkloadView },
      },
    },
    async (request) => {
      const { project, workload } = request.params;
      const found = find(project, workload);
      return workloadView(factsOf(found, await errorsOf({ project, workload })), rooms.fleet.instances(found.workload));
    },
  );

  app.delete(
    "/api/v1/projects/:project/workloads/:workload",
    {
      config: { access: { needs: "deploy", project: "path", command: "workloads remove" } },
      schema: { summary: "Remove a workload", tags: ["workloads"], params: OfWorkload, response: { 204: Type.Null() } },
    },
    async (request, reply) => {
      await rooms.control.removeWorkload(who(request), request.params.project, request.params.workload);
      return reply.code(204).send(null);
    },
  );

  app.get(
    "/api/v1/projects/:project/workloads/:workload/revisions",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Revisions that are kept, newest first",
        tags: ["workloads"],
        params: OfWorkload,
        response: { 200: Type.Array(RevisionRow) },
      },
    },
    async (request) => {
      const { workload } = find(request.params.project, request.params.workload);
      return (await rooms.store.revisions(workload)).map((revision) => revisionRow(revision, workload.current));
    },
  );

  app.post(
    "/api/v1/projects/:project/workloads/:workload/rollback",
    {
      config: { access: { needs: "deploy", project: "path", command: "workloads rollback" } },
      schema: {
        summary: "An earlier revision serves again (the previous one where none is named)",
        tags: ["workloads"],
        params: OfWorkload,
        body: RollbackBody,
        response: { 200: RevisionRow },
      },
    },
    async (request) => {
      const { project, workload } = request.params;
      const revision = await rooms.control.rollback(who(request), project, workload, request.body.revision ?? null);
      return revisionRow(revision, revision.number);
    },
  );

  app.post(
    "/api/v1/projects/:project/workloads/:workload/restart",
    {
      config: { access: { needs: "deploy", project: "path", command: "workloads restart" } },
      schema: {
        summary: "Replace every instance",
        tags: ["workloads"],
        params: OfWorkload,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await rooms.control.restart(who(request), request.params.project, request.params.workload);
      return reply.code(204).send(null);
    },
  );
}
