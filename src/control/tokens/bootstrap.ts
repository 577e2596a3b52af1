// tokens bootstrap: at `ebb up`, an admin token that works, so that whoever owns the data directory can come in.

import { defaultProject } from "#model/names.ts";
import type { Context } from "../context.ts";
import { newProject } from "../projects/create.ts";

/**
 * `known` (from credentials.json; null: none) when it still is an admin token of every project, else a new one. Makes the
 * default project where there is none.
 */
export async function bootstrapToken(context: Context, known: string | null): Promise<string> {
  const nowMs = context.clock.wallMs();
  const by = { timeMs: nowMs, identity: "ebb up", outcome: "ok" } as const;
  if (!context.mirror.project(defaultProject))
    await context.store.apply({
      mutations: [{ kind: "put_project", project: newProject(defaultProject, nowMs) }],
      audit: { ...by, command: "projects create", project: defaultProject, target: defaultProject, detail: "" },
    });
  const identity = known === null ? null : context.access.authenticate(known, nowMs);
  if (known !== null && identity?.scope === "admin" && identity.project === null) return known;
  const name = "credentials.json";
  const { text, token } = context.access.mint({ name, project: null, scope: "admin", expiresMs: null, nowMs });
  // What an earlier credentials.json named is lost; it must not stay valid for whoever finds it.
  const stale = [...context.mirror.tokens(null)].filter((old) => old.project === null && old.name === name);
  await context.store.apply({
    mutations: [...stale.map((old) => ({ kind: "remove_token", id: old.id }) as const), { kind: "put_token", token }],
    audit: {
      ...by,
      command: "tokens create",
      project: null,
      target: name,
      detail: `${token.id}, scope admin, for the owner of the data directory`,
    },
  });
  return text;
}
