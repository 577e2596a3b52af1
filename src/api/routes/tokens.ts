// Routes of tokens: those of one project, those of every project, and the short-lived ones for curl.

import type { Static } from "typebox";
import type { Token } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { InProject, MintedToken, NewToken, OfProjectToken, OfToken, ShortToken, TokenRow } from "../schemas.ts";
import { Type } from "../type.ts";
import { timeOf, tokenRow } from "../views.ts";

type NewTokenBody = Static<typeof NewToken>;

export function tokenRoutes(app: Api, rooms: ApiRooms): void {
  const list = (project: string | null): ReturnType<typeof tokenRow>[] =>
    [...rooms.mirror.tokens(project)]
      .filter((token: Token) => token.project === project)
      .toSorted((a, b) => a.createdMs - b.createdMs)
      .map(tokenRow);

  app.get(
    "/api/v1/tokens",
    {
      config: { access: { needs: "admin", project: "all" } },
      schema: { summary: "Tokens of every project", tags: ["tokens"], response: { 200: Type.Array(TokenRow) } },
    },
    () => list(null),
  );

  app.post(
    "/api/v1/tokens",
    {
      config: { access: { needs: "admin", project: "all", command: "tokens create" } },
      schema: {
        summary: "Create a token for every project",
        tags: ["tokens"],
        body: NewToken,
        response: { 201: MintedToken },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await rooms.control.createToken(who(request), optionsOf(request.body, null))),
  );

  app.delete(
    "/api/v1/tokens/:id",
    {
      config: { access: { needs: "admin", project: "all", command: "tokens remove" } },
      schema: {
        summary: "Remove a token; counts at once",
        tags: ["tokens"],
        params: OfToken,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await rooms.control.removeToken(who(request), null, request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.get(
    "/api/v1/projects/:project/tokens",
    {
      config: { access: { needs: "admin", project: "path" } },
      schema: {
        summary: "Tokens of a project",
        tags: ["tokens"],
        params: InProject,
        response: { 200: Type.Array(TokenRow) },
      },
    },
    (request) => list(request.params.project),
  );

  app.post(
    "/api/v1/projects/:project/tokens",
    {
      config: { access: { needs: "admin", project: "path", command: "tokens create" } },
      schema: {
        summary: "Create a token for a project",
        tags: ["tokens"],
        params: InProject,
        body: NewToken,
        response: { 201: MintedToken },
      },
    },
    async (request, reply) =>
      reply
        .code(201)
        .send(await rooms.control.createToken(who(request), optionsOf(request.body, request.params.project))),
  );

  app.delete(
    "/api/v1/projects/:project/tokens/:id",
    {
      config: { access: { needs: "admin", project: "path", command: "tokens remove" } },
      schema: {
        summary: "Remove a token; counts at once",
        tags: ["tokens"],
        params: OfProjectToken,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await rooms.control.removeToken(who(request), request.params.project, request.params.id);
      return reply.code(204).send(null);
    },
  );

  app.post(
    "/api/v1/projects/:project/short-tokens",
    {
      config: { access: { needs: "invoke", project: "path", command: "tokens short" } },
      schema: {
        summary: "A short-lived token with scope invoke, for curl",
        tags: ["tokens"],
        params: InProject,
        response: { 201: ShortToken },
      },
    },
    async (request, reply) => {
      const { project } = request.params;
      if (!rooms.mirror.project(project)) throw new EbbError("not_found", `there is no project "${project}"`);
      const { text, expiresMs } = rooms.access.mintShort({ project, nowMs: rooms.clock.wallMs(), by: who(request) });
      return reply.code(201).send({ token: text, expires: timeOf(expiresMs) });
    },
  );
}

function optionsOf({ name, scope, expiresMs }: NewTokenBody, project: string | null) {
  return { name, scope, project, expiresMs: expiresMs ?? null };
}
