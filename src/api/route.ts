// The law of routes: each says who may, and nothing is read of a request before that is known.

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { Access } from "#access/door.ts";
import type { AuditEntry, Identity, Scope } from "#model/access.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId } from "#model/ids.ts";
import type { Store } from "#store/door.ts";

export interface RouteAccess {
  /** public: no token at all. token: any valid one. */
  readonly needs: Scope | "public" | "token";
  /**
   * Of which project: `path`: the one that the path names. `query`: the one that the query names, else the identity's own; the
   * handler authorises again when it learns another. `own`: whatever the identity is bound to. `all`: what spans projects.
   */
  readonly project: "path" | "query" | "own" | "all";
  /** Noun and verb of the command behind it, as in control/: what is refused here is audited too. */
  readonly command?: string;
}

export interface GuardRooms {
  readonly access: Pick<Access, "authenticate" | "authorize">;
  readonly clock: Pick<Clock, "wallMs">;
  readonly store: Pick<Store, "audit">;
  readonly tell: Tell;
}

/** A row of the table that the generated test goes through. */
export interface RouteRow {
  readonly method: string;
  readonly url: string;
  readonly access: RouteAccess;
}

export type Api = FastifyInstance<
  import("node:http").Server,
  import("node:http").IncomingMessage,
  import("node:http").ServerResponse,
  import("fastify").FastifyBaseLogger,
  TypeBoxTypeProvider
>;

declare module "fastify" {
  interface FastifyContextConfig {
    access?: RouteAccess;
  }
  interface FastifyRequest {
    identity: Identity | null;
  }
}

/** Adds the hooks; every route registered after this without `config.access` fails the start. */
export function guard(app: Api, rows: RouteRow[], rooms: GuardRooms): void {
  app.decorateRequest("identity", null);
  app.addHook("onRoute", (route) => {
    const access = route.config?.access;
    const methods = [route.method].flat().join(",");
    if (!access) throw new Error(`route ${methods} ${route.url} does not say who may`);
    if (access.project === "path" && !route.url.includes("/:project")) throw new Error(`${route.url} names no project`);
    rows.push({ method: methods, url: route.url, access });
  });
  // onRequest: before the body is read or anything is validated.
  app.addHook("onRequest", (request, _reply, done) => {
    const access: RouteAccess = request.routeOptions.config.access ?? { needs: "token", project: "own" };
    const refusal = admit(request, access, rooms);
    if (refusal && request.identity && access.command !== undefined) audit(request, access, refusal, rooms);
    done(refusal ?? undefined);
  });
}

/** Only of those who showed a valid token: strangers must not be able to fill the audit. */
function audit(request: FastifyRequest, access: RouteAccess, refusal: EbbError, rooms: GuardRooms): void {
  const params: Record<string, unknown> = Object.assign({}, request.params);
  const part = (name: string): string | null => {
    const value = params[name];
    return typeof value === "string" ? printable(value) : null;
  };
  const entry: AuditEntry = {
    timeMs: rooms.clock.wallMs(),
    identity: request.identity?.name ?? "nobody",
    command: access.command ?? request.method,
    project: part("project"),
    target: part("workload") ?? part("secret") ?? part("id"),
    outcome: "refused",
    detail: refusal.message,
  };
  // The answer does not wait for it.
  rooms.store.audit(entry).catch((error: unknown) => {
    rooms.tell({ kind: "defect", errorId: newErrorId(), where: "audit of a refused request", error });
  });
}

function printable(text: string): string {
  return text.slice(0, 100).replaceAll(/[^\x20-\x7e]/g, "?");
}

function admit(request: FastifyRequest, access: RouteAccess, rooms: GuardRooms): EbbError | null {
  if (access.needs === "public") return null;
  const identity = authenticate(request, rooms);
  request.identity = identity;
  if (identity === null || access.needs === "token")
    return identity ? null : new EbbError("unauthenticated", "this needs a token: Authorization: Bearer ebb_…");
  return rooms.access.authorize(identity, access.needs, projectOf(request, access, identity));
}

function authenticate(request: FastifyRequest, { access, clock }: GuardRooms): Identity | null {
  const text = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  return text === undefined ? null : access.authenticate(text, clock.wallMs());
}

function projectOf(request: FastifyRequest, { project }: RouteAccess, identity: Identity): string | null {
  if (project === "all") return null;
  if (project === "own") return identity.project;
  const from: unknown = project === "path" ? request.params : request.query;
  const name = from !== null && typeof from === "object" && "project" in from ? from.project : undefined;
  if (typeof name === "string") return name;
  if (name === undefined && project === "query") return identity.project;
  throw new EbbError("bad_request", "project: expected one name");
}

/** Of a route that is not public: there is one. */
export function who(request: FastifyRequest): Identity {
  if (!request.identity) throw new Error("a route that needs an identity was reached without one");
  return request.identity;
}
