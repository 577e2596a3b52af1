// Routes of runs: start, look, stop, and what a run has left.

import type { Static } from "typebox";
import { EbbError } from "#model/errors.ts";
import { isInvocationId } from "#model/ids.ts";
import { hasEnded, type Run } from "#model/run.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { NewRun, OfRun, OfWorkload, ResultQuery, RunQuery, RunRow, RunsQuery } from "../schemas.ts";
import { Type } from "../type.ts";
import { runRow } from "../run-views.ts";

export function runRoutes(app: Api, rooms: ApiRooms): void {
  async function find(project: string, id: string): Promise<Run> {
    const [found] = isInvocationId(id) ? await rooms.store.runs({ project, id, limit: 1 }) : [];
    if (!found) throw new EbbError("not_found", `there is no run "${id.slice(0, 40)}" in project "${project}"`);
    return rooms.jobs.latest(found);
  }

  function checkJob({ project, workload }: Static<typeof OfWorkload>): void {
    const found = rooms.mirror.workload(project, workload);
    if (!found) throw new EbbError("not_found", `there is no workload "${workload}" in project "${project}"`);
  }

  app.post(
    "/api/v1/projects/:project/workloads/:workload/runs",
    {
      config: { access: { needs: "deploy", project: "path", command: "jobs run" } },
      schema: {
        summary: "Run a job; answered when the run is on the disk",
        tags: ["runs"],
        params: OfWorkload,
        body: NewRun,
        response: { 202: RunRow },
      },
    },
    async (request, reply) => {
      const { project, workload } = request.params;
      const { env = {}, args = null, memoryMb = null, parallelism = null } = request.body;
      const overrides = { env, args, memoryMb, parallelism };
      const run = await rooms.control.runJob(who(request), project, workload, overrides);
      return reply.code(202).send(runRow(rooms.jobs.latest(run)));
    },
  );

  app.get(
    "/api/v1/projects/:project/workloads/:workload/runs",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Runs of a job, newest first",
        tags: ["runs"],
        params: OfWorkload,
        querystring: RunsQuery,
        response: { 200: Type.Array(RunRow) },
      },
    },
    async (request) => {
      checkJob(request.params);
      const runs = await rooms.store.runs({ ...request.params, limit: request.query.limit ?? 100 });
      return runs.map((run) => runRow(rooms.jobs.latest(run)));
    },
  );

  app.get(
    "/api/v1/projects/:project/runs/:run",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "One run; with waitSeconds, when it has ended or so much later",
        tags: ["runs"],
        params: OfRun,
        querystring: RunQuery,
        response: { 200: RunRow },
      },
    },
    async (request) => {
      const { project, run: id } = request.params;
      const run = await find(project, id);
      const { waitSeconds = 0 } = request.query;
      if (waitSeconds === 0 || hasEnded(run.state)) return runRow(run);
      await rooms.jobs.ended(id, waitSeconds * 1_000);
      return runRow(await find(project, id));
    },
  );

  app.post(
    "/api/v1/projects/:project/runs/:run/stop",
    {
      config: { access: { needs: "deploy", project: "path", command: "jobs stop" } },
      schema: { summary: "Stop a run", tags: ["runs"], params: OfRun, response: { 200: RunRow } },
    },
    async (request) => runRow(await rooms.control.stopRun(who(request), request.params.project, request.params.run)),
  );

  app.get(
    "/api/v1/projects/:project/runs/:run/result",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "What a task of a run has written to /ebb/result: bytes, as they are",
        tags: ["runs"],
        params: OfRun,
        querystring: ResultQuery,
      },
    },
    async (request, reply) => {
      const { project, run: id } = request.params;
      const run = await find(project, id);
      const { index = 0 } = request.query;
      const task = run.tasks[index];
      if (!task) throw new EbbError("not_found", `run ${id} has ${run.tasks.length} tasks, counted from 0`);
      const result = task.resultBytes === null ? null : await rooms.jobs.result(run, index);
      if (result === null) throw new EbbError("not_found", noResult(run, index));
      // Whatever it is, no browser takes it for a page of ebb's.
      reply.header("content-type", "application/octet-stream").header("content-length", result.bytes);
      reply.header("content-disposition", "attachment");
      return reply.send(result.content);
    },
  );
}

function noResult({ id, tasks }: Run, index: number): string {
  const task = tasks[index]!;
  const which = tasks.length > 1 ? `task ${index} of run ${id}` : `run ${id}`;
  if (!hasEnded(task.state)) return `${which} has not ended yet (${task.state})`;
  if (task.resultBytes !== null) return `the result of ${which} is not kept any more`;
  return `${which} has left no result: it wrote nothing to /ebb/result`;
}
