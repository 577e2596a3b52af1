// Routes of projects, their quotas and permits.

import { reaches } from "./visible.ts";
import { EbbError } from "#model/errors.ts";
import type { ProjectSettings } from "#control/door.ts";
import type { Project } from "#model/workload.ts";
import { who, type Api } from "../route.ts";
import type { ApiRooms } from "../rooms.ts";
import { InProject, NewProject, NewProjectSettings, ProjectView, RemoveProjectQuery } from "../schemas.ts";
import { Type } from "../type.ts";
import { timeOf } from "../views.ts";

export function projectRoutes(app: Api, rooms: ApiRooms): void {
  const view = (project: Project) => ({
    name: project.name,
    created: timeOf(project.createdMs),
    workloads: rooms.mirror.count(project.name),
    quotas: { ...project.quotas },
    egressPermit: [...(project.egressPermit ?? [])],
  });

  app.get(
    "/api/v1/projects",
    {
      config: { access: { needs: "read", project: "own" } },
      schema: {
        summary: "The projects that the token reaches",
        tags: ["projects"],
        response: { 200: Type.Array(ProjectView) },
      },
    },
    (request) => [...rooms.mirror.projects()].filter(({ name }) => reaches(who(request), name)).map(view),
  );

  app.post(
    "/api/v1/projects",
    {
      config: { access: { needs: "admin", project: "all", command: "projects create" } },
      schema: { summary: "Create a project", tags: ["projects"], body: NewProject, response: { 201: ProjectView } },
    },
    async (request, reply) => {
      const project = await rooms.control.createProject(who(request), request.body.name);
      return reply.code(201).send(view(project));
    },
  );

  app.get(
    "/api/v1/projects/:project",
    {
      config: { access: { needs: "read", project: "path" } },
      schema: { summary: "One project", tags: ["projects"], params: InProject, response: { 200: ProjectView } },
    },
    (request) => {
      const project = rooms.mirror.project(request.params.project);
      if (!project) throw new EbbError("not_found", `there is no project "${request.params.project}"`);
      return view(project);
    },
  );

  app.patch(
    "/api/v1/projects/:project",
    {
      config: { access: { needs: "admin", project: "all", command: "projects set" } },
      schema: {
        summary: "Set quotas and permits of egress; what is left out stays, null lifts one",
        tags: ["projects"],
        params: InProject,
        body: NewProjectSettings,
        response: { 200: ProjectView },
      },
    },
    async (request) => {
      const settings: ProjectSettings = Object.fromEntries(
        Object.entries(request.body).filter(([, value]) => value !== undefined),
      );
      return view(await rooms.control.setProject(who(request), request.params.project, settings));
    },
  );

  app.delete(
    "/api/v1/projects/:project",
    {
      config: { access: { needs: "admin", project: "all", command: "projects remove" } },
      schema: {
        summary: "Remove a project; with everything=true what is in it too",
        tags: ["projects"],
        params: InProject,
        querystring: RemoveProjectQuery,
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      await rooms.control.removeProject(who(request), request.params.project, request.query.everything === true);
      return reply.code(204).send(null);
    },
  );
}
