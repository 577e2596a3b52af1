// Every route x method x identity. The table of routes is the API's own: a route that does not say who may fails the start.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fastify } from "fastify";
import { covers } from "#access/decide.ts";
import type { Scope } from "#model/access.ts";
import { guard, type Api, type GuardRooms, type RouteRow } from "./route.ts";
import { createApiWorld, type ApiWorld } from "./world.testing.ts";

interface Caller {
  readonly name: string;
  readonly authorization: string | null;
  /** null: not authenticated. */
  readonly who: { readonly scope: Scope; readonly project: string | null } | null;
}

let world: ApiWorld;
const callers: Caller[] = [];

before(async () => {
  world = await createApiWorld();
  await world.control.createProject(world.admin, "photos");
  await world.control.createProject(world.admin, "other");
  callers.push({ name: "anonymous", authorization: null, who: null });
  callers.push({ name: "nonsense", authorization: "Bearer ebb_nonsense", who: null });
  callers.push({ name: "unknown token", authorization: `Bearer ebb_${"A".repeat(43)}`, who: null });
  const expired = await world.mint("admin", null, world.clock.nowMs);
  callers.push({ name: "expired admin", authorization: `Bearer ${expired.text}`, who: null });
  const removed = await world.mint("admin", null);
  await world.control.removeToken(world.admin, null, removed.id);
  callers.push({ name: "removed admin", authorization: `Bearer ${removed.text}`, who: null });
  const basic = await world.mint("admin", null);
  const userinfo = Buffer.from(`admin:${basic.text}`).toString("base64");
  callers.push({ name: "basic", authorization: `Basic ${userinfo}`, who: null });
  const credential = world.access.mintCredential("i1", "photos");
  callers.push({ name: "an instance's credential", authorization: `Bearer ${credential}`, who: null });
  for (const scope of ["admin", "deploy", "read", "invoke"] as const)
    for (const project of [null, "photos", "other"]) {
      const { text } = await world.mint(scope, project);
      callers.push({
        name: `${scope} of ${project ?? "all"}`,
        authorization: `Bearer ${text}`,
        who: { scope, project },
      });
    }
  const short = world.access.mintShort({ project: "photos", nowMs: world.clock.nowMs });
  callers.push({
    name: "short-lived",
    authorization: `Bearer ${short.text}`,
    who: { scope: "invoke", project: "photos" },
  });
});
after(() => world.stop());

/** What the law says, written again from DESIGN.md and not from the code: 401, 403, or (null) let through. */
function expected({ needs, project }: RouteRow["access"], { who }: Caller): 401 | 403 | null {
  if (needs === "public") return null;
  if (!who) return 401;
  if (needs === "token") return null;
  const wanted = project === "all" ? null : project === "own" ? who.project : "photos";
  if (who.project !== null && who.project !== wanted) return 403;
  return covers(who.scope, needs) ? null : 403;
}

function targetOf(row: RouteRow): string {
  const path = row.url.replace(":project", "photos").replaceAll(/:[a-z]+/gi, "nothing");
  return row.access.project === "query" ? `${path}?project=photos&name=x` : path;
}

test("the table has every noun of the API", () => {
  const urls = world.api.rows.map(({ url }) => url).join("\n");
  for (const noun of [
    "projects",
    "workloads",
    "deploys",
    "revisions",
    "rollback",
    "restart",
    "secrets",
    "tokens",
    "short-tokens",
    "invocations",
    "usage",
    "logs",
    "audit",
    "status",
    "/metrics",
  ])
    assert.ok(urls.includes(noun), noun);
  assert.ok(world.api.rows.length >= 30);
});

test("a route that does not say who may fails the start", async () => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as api.ts makes it
  const app = fastify().withTypeProvider() as Api;
  const rooms: GuardRooms = { access: world.access, clock: world.clock, store: world.store, tell: world.tell };
  const rows: RouteRow[] = [];
  guard(app, rows, rooms);
  const handler = (): string => "open";
  assert.throws(() => app.get("/api/v1/forgotten", handler), /GET \/api\/v1\/forgotten does not say who may/);
  const access = { needs: "read", project: "path" } as const;
  assert.throws(() => app.get("/api/v1/nowhere", { config: { access } }, handler), /names no project/);
  assert.deepEqual(rows, []);
  await app.close();
});

test("whatever changes something names its command, so that what is refused is audited", async () => {
  const silent = world.api.rows.filter(({ method, access }) => method !== "GET" && access.command === undefined);
  assert.deepEqual(silent, []);
  const reader = callers.find(({ name }) => name === "read of photos")!;
  await world.api.app.inject({
    method: "DELETE",
    url: "/api/v1/projects/photos/workloads/nothing",
    headers: { authorization: reader.authorization! },
  });
  const { identity, command, project, target, outcome } = world.audits.at(-1)!;
  assert.deepEqual(
    [identity, command, project, target, outcome],
    ["read of photos", "workloads remove", "photos", "nothing", "refused"],
  );
});

test("only the version is public", () => {
  assert.deepEqual(
    world.api.rows.filter(({ access }) => access.needs === "public").map(({ url }) => url),
    ["/api/v1/version"],
  );
});

test("nothing that changes anything is open to read or invoke, short-lived tokens apart", () => {
  const weak = world.api.rows.filter(
    ({ method, access }) => method !== "GET" && !["admin", "deploy"].includes(access.needs),
  );
  assert.deepEqual(
    weak.map(({ url }) => url),
    ["/api/v1/projects/:project/short-tokens"],
  );
});

test("every route x method x identity", async () => {
  let count = 0;
  for (const row of world.api.rows) {
    // Asked for by nobody, so that a lucky call cannot change what the next one finds: bodies are empty, names do not exist.
    for (const caller of callers) {
      const response = await world.api.app.inject({
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- fastify gave it
        method: row.method as "GET",
        url: targetOf(row),
        headers: {
          ...(caller.authorization === null ? {} : { authorization: caller.authorization }),
          ...(row.method === "GET" || row.method === "DELETE" ? {} : { "content-type": "application/json" }),
        },
        ...(row.method === "GET" || row.method === "DELETE" ? {} : { payload: "[]" }),
      });
      const wanted = expected(row.access, caller);
      const label = `${row.method} ${targetOf(row)} as ${caller.name}: ${response.statusCode} ${response.body.slice(0, 200)}`;
      if (wanted === null)
        assert.ok(
          (![401, 403].includes(response.statusCode) && response.statusCode < 500) || isShort(row, caller),
          label,
        );
      else assert.equal(response.statusCode, wanted, label);
      if (response.statusCode >= 400) {
        assert.equal(response.headers["content-type"], "application/problem+json", label);
        assert.equal(response.json().status, response.statusCode, label);
      }
      count += 1;
    }
    await stillThere();
  }
  assert.equal(count, world.api.rows.length * callers.length);
});

/** A short-lived token has scope invoke, and is still refused another of its kind. */
function isShort(row: RouteRow, caller: Caller): boolean {
  return row.url.endsWith("/short-tokens") && caller.name === "short-lived";
}

/** DELETE of the project itself is the one call of the table that finds what it names. */
async function stillThere(): Promise<void> {
  if (!world.mirror.project("photos")) await world.control.createProject(world.admin, "photos");
  for (const caller of callers) {
    const { who } = caller;
    if (!who || who.project !== "photos" || caller.name === "short-lived") continue;
    const text = caller.authorization!.slice("Bearer ".length);
    assert.ok(world.access.authenticate(text, world.clock.nowMs), `${caller.name} lost its token`);
  }
}

test("paths are judged in the form in which they are used", async () => {
  const mine = callers.find(({ name }) => name === "admin of other")!;
  const tries = [
    "/api/v1/projects/%70hotos/workloads",
    "/api/v1/projects/other%2F..%2Fphotos/workloads",
    "/api/v1/projects/other/../photos/workloads",
    "//api/v1/projects/photos/workloads",
    "/api/v1/projects/photos/workloads/",
    "/API/v1/projects/photos/workloads",
    "/api/v1/projects/photos;x=1/workloads",
    "/api/v1/projects/%/workloads",
  ];
  for (const url of tries) {
    const response = await world.api.app.inject({
      method: "GET",
      url,
      headers: { authorization: mine.authorization! },
    });
    assert.ok([400, 403, 404].includes(response.statusCode), `${url}: ${response.statusCode}`);
  }
});
