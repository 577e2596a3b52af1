// tokens create: minted, stored as a hash, and shown once.

import { isUtf8 } from "node:buffer";
import type { Identity, Scope } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { accessLimits } from "#model/limits.ts";
import { command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

const dayMs = 86_400_000;

export interface TokenOptions {
  readonly name: string;
  /** null: every project (only for identities that are bound to none). */
  readonly project: string | null;
  readonly scope: Scope;
  readonly expiresMs: number | null;
}

export function createToken(
  context: Context,
  identity: Identity,
  options: TokenOptions,
): Promise<{ readonly id: string; readonly token: string }> {
  const { project, scope, expiresMs } = options;
  const head = { command: "tokens create", identity, needs: "admin", project, target: options.name } as const;
  return command(context, head, async (audit) => {
    if (project !== null) projectOf(context, project);
    const nowMs = context.clock.wallMs();
    checkTokenName(options.name);
    if (expiresMs !== null && (expiresMs <= nowMs || expiresMs > nowMs + accessLimits.tokenLifeDays * dayMs))
      throw new EbbError(
        "bad_request",
        `a token expires in the future, at most ${accessLimits.tokenLifeDays} days ahead`,
      );
    if (countOf(context, project) >= accessLimits.tokensPerProject)
      throw new EbbError(
        "over_quota",
        `${accessLimits.tokensPerProject} tokens exist, the most there may be; remove one`,
      );
    const { text, token } = context.access.mint({ name: options.name, project, scope, expiresMs, nowMs });
    await context.store.apply({
      mutations: [{ kind: "put_token", token }],
      audit: audit(
        `${token.id}, scope ${scope}, ${expiresMs === null ? "never expires" : `until ${new Date(expiresMs).toISOString()}`}`,
      ),
    });
    return { id: token.id, token: text };
  });
}

function countOf(context: Context, project: string | null): number {
  let count = 0;
  for (const token of context.mirror.tokens(project)) if (token.project === project) count += 1;
  return count;
}

function checkTokenName(name: string): void {
  // Shown in audits and terminals: printable, and short.
  if (
    name.length === 0 ||
    name.length > accessLimits.tokenNameChars ||
    !/^[\p{L}\p{N} ._@:/+-]+$/u.test(name) ||
    !isUtf8(Buffer.from(name))
  )
    throw new EbbError(
      "invalid_name",
      `a token's name has 1 to ${accessLimits.tokenNameChars} letters, digits, spaces or . _ @ : / + -`,
    );
}
