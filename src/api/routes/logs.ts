// The route of logs: the newest lines, or (follow) what is written from now on, one JSON value a line.

import { Readable } from "node:stream";
import type { Static } from "typebox";
import { EbbError } from "#model/errors.ts";
import { isInvocationId } from "#model/ids.ts";
import { apiLimits } from "#model/limits.ts";
import type { LogLine, LogQuery as TelemetryQuery } from "#telemetry/door.ts";
import { type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { InProject, LogQuery, LogRow } from "../schemas.ts";
import { Type } from "../type.ts";
import { streamLines } from "../stream.ts";
import { logRow } from "../views.ts";

export function logRoutes(app: Api, rooms: ApiRooms): void {
  let following = 0;

  app.get(
    "/api/v1/projects/:project/logs",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Log lines, oldest first; with follow=true a stream of NDJSON",
        tags: ["records"],
        params: InProject,
        querystring: LogQuery,
        response: { 200: Type.Array(LogRow) },
      },
    },
    async (request, reply) => {
      const query = queryOf(request.params.project, request.query);
      const { limit = 1_000, follow } = request.query;
      if (follow !== true) return (await rooms.telemetry.logs({ ...query, limit })).map(logRow);
      if (following >= apiLimits.followers)
        throw new EbbError("over_quota", `${apiLimits.followers} log streams are open`, { retryAfterSeconds: 10 });
      following += 1;
      const stream = followed(rooms, query, () => (following -= 1));
      return streamLines(reply, stream);
    },
  );
}

function queryOf(project: string, { workload, invocation, run, since }: Static<typeof LogQuery>) {
  if (run !== undefined && !isInvocationId(run))
    throw new EbbError("bad_request", `run: "${run.slice(0, 40)}" is not the id of one`);
  if (invocation !== undefined && !isInvocationId(invocation))
    throw new EbbError("bad_request", `invocation: "${invocation.slice(0, 40)}" is not the id of one`);
  return {
    project,
    ...(workload === undefined ? {} : { workload }),
    ...(invocation === undefined ? {} : { invocation }),
    ...(run === undefined ? {} : { run }),
    ...(since === undefined ? {} : { sinceMs: since }),
  };
}

/** A reader that is too slow loses lines, and is told how many: ebb's memory is not its buffer. */
function followed(rooms: ApiRooms, query: Omit<TelemetryQuery, "limit">, ended: () => void): Readable {
  let dropped = 0;
  let stop: (() => void) | null = null;
  let cancel: (() => void) | null = null;
  const stream = new Readable({
    highWaterMark: apiLimits.followBufferBytes,
    read: () => {},
    destroy: (error, done) => {
      stop?.();
      cancel?.();
      ended();
      done(error);
    },
  });
  const push = (line: LogLine): void => {
    if (stream.destroyed) return;
    if (stream.readableLength > apiLimits.followBufferBytes) {
      dropped += 1;
      return;
    }
    if (dropped > 0) {
      const message = `${dropped} lines were dropped: they came faster than they were read`;
      dropped = 0;
      push({ ...line, invocation: null, stream: "ebb", level: "warn", message });
    }
    stream.push(`${JSON.stringify(logRow(line))}\n`);
  };
  // An empty line now and then: a reader that has gone is noticed, and proxies keep the connection open.
  const beat = (): void => {
    cancel = rooms.clock.after(apiLimits.followBeatMs, () => {
      if (stream.destroyed) return;
      if (stream.readableLength === 0) stream.push("\n");
      beat();
    });
  };
  const following = rooms.telemetry.follow(query, push);
  stop = () => following.stop();
  stream.push("\n");
  beat();
  return stream;
}
