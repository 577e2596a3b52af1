// tokens remove: counts at once. The last token that may create others stays, or nobody could come in again.

import type { Identity, Token } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { command } from "../command.ts";
import type { Context } from "../context.ts";

/** `project`: where the token is looked for; null: among those of every project. */
export function removeToken(context: Context, identity: Identity, project: string | null, id: string): Promise<void> {
  const head = { command: "tokens remove", identity, needs: "admin", project, target: id } as const;
  return command(context, head, (audit) =>
    context.changes.run(`tokens of ${project ?? "all"}`, async () => {
      const token = find(context, project, id);
      if (!token) throw new EbbError("not_found", `there is no token "${id.slice(0, 40)}" here`);
      if (token.project === null && token.scope === "admin" && !anotherAdmin(context, token))
        throw new EbbError(
          "conflict",
          `"${token.name}" is the last admin token that does not expire; create another first`,
        );
      await context.store.apply({
        mutations: [{ kind: "remove_token", id }],
        audit: audit(`${token.name}, ${token.scope}`),
      });
    }),
  );
}

function find(context: Context, project: string | null, id: string): Token | null {
  for (const token of context.mirror.tokens(project)) if (token.id === id && token.project === project) return token;
  return null;
}

function anotherAdmin(context: Context, than: Token): boolean {
  for (const token of context.mirror.tokens(null))
    if (token.id !== than.id && token.project === null && token.scope === "admin" && token.expiresMs === null)
      return true;
  return false;
}
