// Handler files as people write them for other platforms: recognised, and answering, without a change.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import { header, type ClientRequest } from "./client.ts";
import type { Assignment } from "./instance.ts";
import { itOf, type Runtime, handlersFolder, serving } from "./support.ts";

interface Case {
  readonly shape: string;
  /** Nothing but what it is recognised as is its own: node-loading.test.ts shows that, and what serves it others do. */
  readonly alike?: true;
  readonly changes?: Partial<Assignment>;
  readonly is: readonly [entry: string, handler: string | null, signature: string];
  readonly calls: ReadonlyArray<readonly [ClientRequest, status: number, body: string | RegExp | object]>;
}

const json = [["content-type", "application/json"]] as const;

export const handlerFiles: Record<string, Case[]> = {
  node: [
    {
      shape: "lambda-esm",
      alike: true,
      is: ["index.mjs", "handler", "event"],
      calls: [[{ target: "/a/b" }, 200, "lambda /a/b"]],
    },
    {
      shape: "lambda-cjs",
      alike: true,
      is: ["index.js", "handler", "event"],
      calls: [[{ target: "/x" }, 200, { path: "/x", id: 26 }]],
    },
    { shape: "lambda-callback", is: ["index.js", "handler", "event"], calls: [[{}, 200, "called back"]] },
    {
      shape: "lambda-nested",
      changes: { handler: "src/app.lambdaHandler", signature: "event" },
      is: ["src/app.js", "lambdaHandler", "event"],
      calls: [[{}, 200, "nested GET"]],
    },
    {
      shape: "scaleway-cjs",
      alike: true,
      changes: { handler: "handler.handle" },
      is: ["handler.js", "handle", "event"],
      calls: [[{ target: "/?name=ann" }, 200, "hello ann"]],
    },
    {
      shape: "scaleway-esm",
      alike: true,
      is: ["handler.js", "handle", "event"],
      calls: [[{}, 201, { message: "scaleway" }]],
    },
    {
      shape: "vercel-node",
      is: ["index.js", "default", "node"],
      calls: [
        [
          { target: "/?name=bo", headers: [["cookie", "session=s%20t"]] },
          202,
          { hello: "bo", body: null, cookie: "s t" },
        ],
        [{ headers: json, body: '{"a":1}' }, 202, { hello: "world", body: { a: 1 }, cookie: null }],
      ],
    },
    { shape: "vercel-async", alike: true, is: ["api.mjs", "default", "node"], calls: [[{}, 200, "sent"]] },
    {
      shape: "next-route",
      is: ["index.mjs", null, "web"],
      calls: [
        [{ target: "/p" }, 200, { got: "/p" }],
        [{ headers: json, body: '{"name":"cy"}' }, 201, "posted cy"],
        [{ method: "DELETE" }, 405, ""],
        [{ method: "OPTIONS" }, 204, ""],
      ],
    },
    {
      shape: "cloudflare",
      changes: { env: { GREETING: "hi" } },
      is: ["index.mjs", "default.fetch", "web"],
      calls: [[{}, 200, "hi from hello.localhost"]],
    },
    {
      shape: "hono",
      is: ["index.mjs", "default.fetch", "web"],
      calls: [
        [{}, 200, "Hono!"],
        [{ target: "/no" }, 404, "404 Not Found"],
      ],
    },
    {
      shape: "deno",
      alike: true,
      is: ["server.mjs", "default", "web"],
      calls: [[{ body: "body" }, 200, "deno POST body"]],
    },
    { shape: "no-parameters", alike: true, is: ["index.mjs", "default", "web"], calls: [[{}, 200, "nothing needed"]] },
    {
      shape: "fetch-export",
      alike: true,
      is: ["index.mjs", "fetch", "web"],
      calls: [[{ target: "/?q=7" }, 200, "fetched 7"]],
    },
    {
      shape: "typescript-default",
      alike: true,
      is: ["index.js", "default.default", "web"],
      calls: [[{}, 200, "compiled"]],
    },
    {
      shape: "typescript-interop",
      alike: true,
      is: ["index.js", "default.default.fetch", "web"],
      calls: [[{}, 200, "twice wrapped"]],
    },
    {
      shape: "express",
      is: ["index.js", null, "server"],
      calls: [
        [{}, 200, "Hello from Express"],
        [
          { target: "/users/ann?a=1", headers: json, body: '{"b":2}' },
          201,
          { name: "ann", got: { b: 2 }, query: { a: "1" } },
        ],
        [{ target: "/throw" }, 500, /boom in Express/],
        [{ target: "/no" }, 404, /Cannot GET \/no/],
      ],
    },
    {
      shape: "express-exported",
      is: ["index.js", "default", "node"],
      calls: [
        [{}, 200, "Hello from Express"],
        [{ headers: json, body: '{"b":2}' }, 201, { b: 2 }],
      ],
    },
    { shape: "express-both", is: ["index.js", null, "server"], calls: [[{}, 200, "Hello from Express"]] },
    {
      shape: "fastify",
      is: ["server.mjs", null, "server"],
      calls: [
        [{}, 200, { hello: "fastify" }],
        [{ headers: json, body: '{"b":2}' }, 200, { got: { b: 2 } }],
      ],
    },
    {
      shape: "koa",
      is: ["index.js", null, "server"],
      calls: [
        [{}, 200, "Hello Koa"],
        [{ target: "/json" }, 200, { koa: true }],
      ],
    },
    { shape: "late-listen", is: ["index.js", null, "server"], calls: [[{}, 200, "the real one"]] },
    {
      shape: "google",
      changes: { handler: "helloHttp" },
      is: ["index.js", "helloHttp", "node"],
      calls: [
        [{ target: "/?name=di" }, 200, "Hello di"],
        [{ headers: json, body: '{"name":"ed"}' }, 200, "Hello ed"],
      ],
    },
    {
      shape: "oddly-named",
      alike: true,
      changes: { handler: "process" },
      is: ["index.mjs", "process", "event"],
      calls: [[{ target: "/z" }, 200, { processed: "/z" }]],
    },
    { shape: "class-instance", is: ["index.mjs", "default.fetch", "web"], calls: [[{}, 200, "this is service"]] },
    {
      shape: "azure",
      alike: true,
      changes: { signature: "event" },
      is: ["index.js", "default", "event"],
      calls: [[{}, 200, ""]],
    },
  ],
  python: [
    {
      shape: "lambda",
      is: ["lambda_function.py", "lambda_handler", "event"],
      calls: [[{ target: "/x" }, 200, { path: "/x", id: 26 }]],
    },
    {
      shape: "scaleway",
      changes: { handler: "handler.handle" },
      is: ["handler.py", "handle", "event"],
      calls: [[{ target: "/?name=ann" }, 200, "hello ann"]],
    },
    { shape: "event-async", is: ["main.py", "handler", "event"], calls: [[{}, 200, { async: "GET" }]] },
    {
      shape: "flask",
      is: ["app.py", "app", "wsgi"],
      calls: [[{ target: "/a%20b", body: "data" }, 200, "flask POST /a b data"]],
    },
    { shape: "wsgi-function", is: ["app.py", "application", "wsgi"], calls: [[{ target: "/p" }, 201, "one two"]] },
    { shape: "asgi-function", is: ["app.py", "app", "asgi"], calls: [[{ target: "/p" }, 200, "asgi /p"]] },
    { shape: "fastapi", is: ["main.py", "app", "asgi"], calls: [[{}, 200, "fastapi pool open"]] },
    {
      shape: "named",
      changes: { handler: "src/thing.work", signature: "event" },
      is: ["src/thing.py", "work", "event"],
      calls: [[{}, 200, "worked"]],
    },
    { shape: "ambiguous", changes: { signature: "event", handler: "app" }, is: ["app.py", "app", "event"], calls: [] },
  ],
};

/** `shapes`: these alone; "every": those too that differ in nothing but what they are recognised as. */
export function handlerFilesSuite(runtime: Runtime, shapes: "every" | readonly string[] | null = null): void {
  const it = itOf(runtime);
  const chosen = (handlerFiles[runtime.language] ?? []).filter(({ shape, alike }) =>
    shapes === null ? alike === undefined : shapes === "every" || shapes.includes(shape),
  );
  describe(`${runtime.name}: handler files`, () => {
    for (const { shape, changes, is, calls } of chosen) {
      it(`serves ${shape}`, async (t) => {
        const instance = await serving(
          t,
          runtime,
          path.join(handlersFolder, runtime.language, "shapes", shape),
          changes,
        );
        assert.deepEqual([instance.ready.entry, instance.ready.handler, instance.ready.signature], is);
        const connection = await instance.connect();
        for (const [request, status, body] of calls) {
          const answer = await connection.request(request);
          assert.equal(answer.status, status, answer.text);
          if (body instanceof RegExp) assert.match(answer.text, body);
          else if (typeof body === "string") assert.equal(answer.text, body);
          else assert.deepEqual(JSON.parse(answer.text), body);
          const told =
            instance.ready.done === "response" ||
            header(answer, "ebb-done") === "1" ||
            header(answer, "transfer-encoding") === "chunked";
          assert.ok(told, "the answer does not say that it is done");
        }
      });
    }
  });
}
