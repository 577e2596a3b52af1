// The route of deploys: an archive in, progress out as NDJSON (or one JSON value at the end).

import { PassThrough } from "node:stream";
import type { Static } from "typebox";
import type { DeployProgress, DeployRequest } from "#control/door.ts";
import { EbbError, problemOf } from "#model/errors.ts";
import { knownError } from "../problems.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { DeployQuery, Deployed, type DeployResultRow } from "../schemas.ts";
import { streamLines } from "../stream.ts";

type Query = Static<typeof DeployQuery>;

export function deployRoutes(app: Api, rooms: ApiRooms): void {
  // The archive is not read here: builds.receive pulls it, and bounds it.
  app.addContentTypeParser(["application/gzip", "application/x-gzip"], (_request, payload, done) =>
    done(null, payload),
  );

  app.post(
    "/api/v1/deploys",
    {
      config: { access: { needs: "deploy", project: "query", command: "workloads deploy" } },
      schema: {
        summary: "Deploy a gzipped tar of a folder",
        description:
          "With accept: application/x-ndjson each step is told as it happens (`received`, and for each workload `noted`, `building`, `built`, `fetching`, `image`, `printed`, `checking`, `checked`); the last line is `deployed` or `failed`.",
        tags: ["workloads"],
        consumes: ["application/gzip"],
        querystring: DeployQuery,
        response: { 200: Deployed },
      },
    },
    async (request, reply) => {
      const archive: unknown = request.body;
      if (archive !== request.raw) throw new EbbError("bad_request", "content-type: expected application/gzip");
      const gone = new AbortController();
      reply.raw.once("close", () => {
        if (!reply.raw.writableFinished) gone.abort();
      });
      const deployRequest = { ...requestOf(request.query), archive: request.raw, signal: gone.signal };
      if (!/application\/x-ndjson/i.test(request.headers.accept ?? "")) {
        const steps: DeployProgress[] = [];
        await rooms.control.deploy(who(request), deployRequest, (step) => steps.push(step));
        const last = steps.at(-1);
        if (last?.step !== "deployed") throw new Error("a deploy ended without its last step");
        const { results, kept, keptMore, removed } = last;
        const rows: Array<Static<typeof DeployResultRow>> = [];
        for (const one of results) rows.push({ ...one, command: one.command && [...one.command] });
        return { results: rows, kept: [...kept], keptMore, removed: [...removed] };
      }
      const out = new PassThrough();
      // Until the first step is told, what goes wrong still has a status of its own.
      const first = Promise.withResolvers<void>();
      const work = rooms.control.deploy(who(request), deployRequest, (step) => {
        out.write(`${JSON.stringify(step)}\n`);
        first.resolve();
      });
      void work.then(
        () => out.end(),
        (error: unknown) => {
          const problem = problemOf(knownError(error, "deploy", rooms.tell));
          out.end(`${JSON.stringify({ step: "failed", problem })}\n`);
        },
      );
      await Promise.race([first.promise, work]);
      return streamLines(reply, out);
    },
  );
}

function requestOf(query: Query): Omit<DeployRequest, "archive"> {
  return {
    project: query.project ?? null,
    name: query.name ?? null,
    folderName: query.folderName ?? null,
    memoryMb: query.memoryMb ?? null,
    env: environmentOf([query.env ?? []].flat()),
    public: query.public ?? null,
    prune: [query.prune ?? []].flat(),
    noCache: query.noCache ?? false,
    gitCommit: query.gitCommit ?? null,
  };
}

function environmentOf(pairs: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const pair of pairs) {
    const cut = pair.indexOf("=");
    if (cut < 1) throw new EbbError("bad_request", `env: expected KEY=VALUE, found "${pair.slice(0, 80)}"`);
    env[pair.slice(0, cut)] = pair.slice(cut + 1);
  }
  return env;
}
