// Routes of secrets: written, listed by name, never read.

import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { InProject, OfSecret, SecretBody, SecretRow, SecretSet } from "../schemas.ts";
import { Type } from "../type.ts";
import { secretRow } from "../views.ts";

export function secretRoutes(app: Api, rooms: ApiRooms): void {
  app.get(
    "/api/v1/projects/:project/secrets",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: {
        summary: "Names and versions",
        tags: ["secrets"],
        params: InProject,
        response: { 200: Type.Array(SecretRow) },
      },
    },
    (request) =>
      [...rooms.mirror.secrets(request.params.project)].map(secretRow).toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  );

  app.put(
    "/api/v1/projects/:project/secrets/:secret",
    {
      config: { access: { needs: "deploy", project: "path", command: "secrets set" } },
      schema: {
        summary: "Set a secret; instances that use it are replaced",
        tags: ["secrets"],
        params: OfSecret,
        body: SecretBody,
        response: { 200: SecretSet },
      },
    },
    async (request) => {
      const { project, secret } = request.params;
      const { version, replaced } = await rooms.control.setSecret(who(request), project, secret, request.body.value);
      return { version, replaced: [...replaced] };
    },
  );

  app.delete(
    "/api/v1/projects/:project/secrets/:secret",
    {
      config: { access: { needs: "deploy", project: "path", command: "secrets remove" } },
      schema: { summary: "Remove a secret", tags: ["secrets"], params: OfSecret, response: { 204: Type.Null() } },
    },
    async (request, reply) => {
      await rooms.control.removeSecret(who(request), request.params.project, request.params.secret);
      return reply.code(204).send(null);
    },
  );
}
