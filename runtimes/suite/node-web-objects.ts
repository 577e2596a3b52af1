// Our Request, Response and Headers against the Fetch standard, where handlers lean on it; and the shapes that only Node has.

import assert from "node:assert/strict";
import { after, describe } from "node:test";
import { header, headersOf } from "./client.ts";
import { newId } from "./instance.ts";
import { itOf, type Runtime, codeOf, failing, serving, shared } from "./support.ts";

/** A web handler of these statements, or of those that x-case says; what they return that is no Response is sent as JSON, unless it looks like another style's. */
function web(...bodies: readonly string[]): Record<string, string> {
  const cases = bodies.map((body) => `async (request, env, ctx) => { ${body} }`);
  return {
    "index.mjs": `const cases = [${cases.join(",\n")}];
      export default { async fetch(request, env, ctx) { const value = await cases[request.headers.get("x-case") ?? 0](request, env, ctx); return value instanceof Response || value?.statusCode ? value : Response.json(value); } };`,
  };
}

export function nodeSuite(runtime: Runtime): void {
  webObjectsSuite(runtime);
  nodeShapesSuite(runtime);
}

/** What differs most between versions of Node. */
export function webObjectsSuite(runtime: Runtime): void {
  const it = itOf(runtime);
  describe(`${runtime.name}: web objects`, { concurrency: 1 }, () => {
    const results: Array<[name: string, body: string, expected: unknown]> = [
      [
        "headers join, sort and keep cookies apart",
        `const h = new Headers({ b: "1" }); h.append("A", "x"); h.append("a", " y "); h.append("set-cookie", "1"); h.append("set-cookie", "2"); return [[...h], h.get("A"), h.getSetCookie(), h.has("B")];`,
        [
          [
            ["a", "x, y"],
            ["b", "1"],
            ["set-cookie", "1"],
            ["set-cookie", "2"],
          ],
          "x, y",
          ["1", "2"],
          true,
        ],
      ],
      [
        "headers refuse names and values that are none",
        `return ["a b", "", "ä"].map((name) => { try { new Headers([[name, "x"]]); return "taken"; } catch (error) { return error.name; } }).concat((() => { try { new Headers({ a: "x\\r\\ny: z" }); return "taken"; } catch (error) { return error.name; } })());`,
        ["TypeError", "TypeError", "TypeError", "TypeError"],
      ],
      [
        "a request can be read once, as what is asked for",
        `const first = await request.json(); let again; try { await request.text(); } catch (error) { again = error.name; } return [first, again, request.bodyUsed];`,
        [{ a: 1 }, "TypeError", true],
      ],
      [
        "a clone of a request can be read too",
        `const copy = request.clone(); return [await request.text(), await copy.json(), copy.headers.get("content-type")];`,
        ['{"a":1}', { a: 1 }, "application/json"],
      ],
      [
        "a request can be made anew of the one that came",
        `const next = new Request("http://other.test/x", request); return [next.url, next.method, await next.json(), next instanceof Request];`,
        ["http://other.test/x", "POST", { a: 1 }, true],
      ],
      [
        "a request's body is a stream of bytes",
        `let size = 0; for await (const chunk of request.body) size += chunk.byteLength; return size;`,
        7,
      ],
      [
        "a response's body can be streamed, cloned and read",
        `const r = new Response("abc"); const copy = r.clone(); const reader = copy.body.getReader(); const { value } = await reader.read(); return [await r.text(), new TextDecoder().decode(value), r.bodyUsed, r.ok];`,
        ["abc", "abc", true, true],
      ],
      [
        "forms go in and out",
        `const form = new FormData(); form.append("a", "1"); form.append("f", new File(["data"], "n.txt", { type: "text/plain" })); const back = await new Response(form).formData(); const file = back.get("f"); return [back.get("a"), file.name, file.type, await file.text()];`,
        ["1", "n.txt", "text/plain", "data"],
      ],
      [
        "fetch takes our requests and gives answers that are responses",
        `const r = await fetch(new Request("data:text/plain,hi", { headers: new Headers({ a: "b" }) })); return [r instanceof Response, r.headers instanceof Headers, await r.text()];`,
        [true, true, "hi"],
      ],
      [
        "statuses out of range and bodies where none may be are refused",
        `const tries = [() => new Response("x", { status: 99 }), () => new Response("x", { status: 204 }), () => Response.redirect("/x"), () => new Request("http://a/", { body: "x" })]; return tries.map((make) => { try { make(); return "made"; } catch (error) { return error.name; } });`,
        ["RangeError", "TypeError", "TypeError", "TypeError"],
      ],
      [
        "the environment is the second argument, and the time left is known",
        `return [env.EBB_WORKLOAD, ctx.getRemainingTimeInMillis() <= 30000];`,
        ["hello", true],
      ],
      [
        "the URL has the scheme and host of the caller",
        `return request.url;`,
        "https://hello.localhost:8080/a%20b/?q=%C3%A9",
      ],
    ];
    const fetches = `
      const http = await import("node:http"), zlib = await import("node:zlib");
      const origin = http.createServer((_, res) => res.writeHead(203, { "content-encoding": "gzip", "x-origin": "yes" }).end(zlib.gzipSync("decoded")));
      await new Promise((resolve) => origin.listen(0, "127.0.0.1", resolve));
      const answer = await fetch("http://127.0.0.1:" + origin.address().port);
      ctx.waitUntil(new Promise((resolve) => origin.close(resolve)));
      return answer;`;
    const all = shared(
      runtime,
      codeOf({ after }, web(...results.map(([, body]) => body), fetches, "return { statusCode: 200 };")),
    );
    for (const [n, [name, , expected]] of results.entries()) {
      it(name, async () => {
        const instance = await all();
        const headers = [
          ["x-case", String(n)],
          ["content-type", "application/json"],
          ["x-forwarded-proto", "https"],
        ] as const;
        const answer = await instance.request({ target: "/a%20b/?q=%C3%A9", headers, body: '{"a":1}' });
        assert.equal(answer.status, 200, `${answer.text}\n${instance.output.stderr}`);
        assert.deepEqual(JSON.parse(answer.text), expected);
      });
    }

    it("sends an answer that fetch has made, without what its decoding made untrue", async () => {
      const instance = await all();
      const answer = await instance.request({ headers: [["x-case", String(results.length)]] });
      assert.equal(answer.status, 203);
      assert.equal(answer.text, "decoded");
      assert.equal(header(answer, "content-encoding"), undefined);
      assert.equal(header(answer, "x-origin"), "yes");
    });

    it("says what a web handler answered instead of a Response", async () => {
      const instance = await all();
      const answer = await instance.request({ headers: [["x-case", String(results.length + 1)]] });
      assert.equal(answer.status, 500);
      assert.match(JSON.parse(answer.text).detail, /an object \(Object\) instead of a Response.*signature: event/);
    });
  });
}

export function nodeShapesSuite(runtime: Runtime): void {
  const it = itOf(runtime);
  describe(`${runtime.name}: the node style`, { concurrency: 1 }, () => {
    const styled = shared(
      runtime,
      codeOf(
        { after },
        {
          "index.mjs": `import { once } from "node:events"; let go; export default async function (req, res) {
            if (req.url === "/size") { let size = 0; for await (const chunk of req) size += chunk.length; return res.json({ size, body: req.body === undefined }); }
            if (req.url === "/go") { go(); return res.end("went"); }
            if (req.url === "/early") { res.end("early"); await new Promise((resolve) => (go = resolve)); return console.log("after"); }
            if (req.url === "/throw") throw new Error("boom");
            if (req.url === "/hang") { console.log("hanging"); await once(res, "close"); console.log("closed"); return; }
            res.setHeader("set-cookie", ["a=1", "b=2"]); res.end(); }`,
        },
      ),
      { concurrency: 2 },
    );

    it("streams a body that is long or of unknown length", async () => {
      const instance = await styled();
      const long = await instance.request({ target: "/size", body: Buffer.alloc(7 * 1024 * 1024) });
      assert.deepEqual(JSON.parse(long.text), { size: 7 * 1024 * 1024, body: true });
      const short = await instance.request({ target: "/size", body: Buffer.alloc(300_000) });
      assert.deepEqual(JSON.parse(short.text), { size: 300_000, body: false });
    });

    it("is done when the handler is, though its answer went out before", async () => {
      const instance = await styled();
      const id = newId();
      const connection = await instance.connect();
      const early = await connection.request({ target: "/early", id });
      assert.deepEqual([early.text, header(early, "ebb-done")], ["early", undefined]);
      assert.equal(header(await connection.request({ target: "/go" }), "ebb-done"), "1");
      await instance.done(id);
    });

    it("aborts with the client, fails with a problem, and keeps cookies apart", async () => {
      const instance = await styled();
      const failed = await instance.request({ target: "/throw" });
      assert.deepEqual(
        [failed.status, header(failed, "ebb-error"), header(failed, "ebb-done")],
        [500, "function", "1"],
      );
      assert.deepEqual(headersOf(await instance.request({}), "set-cookie"), ["a=1", "b=2"]);
      const id = newId();
      const connection = await instance.connect();
      connection.send({ target: "/hang", id });
      const said = (word: string) =>
        instance.output.until(({ frames }) => frames.some(({ i, m }) => i === id && m.includes(word)));
      await said("hanging");
      connection.close();
      await instance.done(id);
      await said("closed");
    });
  });

  describe(`${runtime.name}: code that listens`, () => {
    const server = `import http from "node:http"; const app = http.createServer((req, res) => { console.log("asked " + req.url); res.end(JSON.stringify(app.address())); }); app.listen(process.env.PORT);`;

    it("believes that it listens on PORT, its output is marked, a second assignment leaves it alone, and it drains", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, { "server.mjs": server }));
      const id = newId();
      const answer = await instance.request({ target: "/x", id });
      assert.equal(JSON.parse(answer.text).port, 8080);
      assert.equal(instance.ready.done, "response");
      await instance.output.until((output) => output.stdout.includes(`- ${id}\n`));
      assert.match(instance.output.stdout, new RegExp(`\\+ ${id}\\nasked /x\\n`));
      assert.deepEqual(instance.told, []);
      const connection = await instance.connect();
      connection.socket.write("POST /ebb/v1/assign HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}");
      assert.equal((await connection.response()).status, 410);
      instance.launched.signal("SIGTERM");
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
    });

    it("takes a WebSocket, which is its invocation until it closes: its output is marked, and an end waits for it", async (t) => {
      const upgrading = `import http from "node:http"; const app = http.createServer(); app.listen(process.env.PORT);
        app.on("upgrade", (request, socket, head) => {
          console.log("joined"); socket.write("HTTP/1.1 101 Switching Protocols\\r\\nupgrade: websocket\\r\\nconnection: upgrade\\r\\n\\r\\n");
          socket.on("data", (data) => { console.log("heard " + data); socket.end("bye"); }); socket.write(head); });`;
      const instance = await serving(t, runtime, codeOf(t, { "server.mjs": upgrading }));
      const id = newId();
      const connection = await instance.connect();
      const head = connection.head({ target: "/", id }, "connection: upgrade\r\nupgrade: websocket\r\n");
      connection.socket.write(`${head}early`);
      await connection.until(() => connection.received.toString().endsWith("\r\n\r\nearly"));
      assert.match(connection.received.toString(), /^HTTP\/1\.1 101 /);
      instance.launched.signal("SIGTERM");
      // The mark of the begin comes before the signal does anything; what is heard after it is still of this invocation.
      connection.socket.write("last");
      await connection.until(() => connection.ended);
      assert.ok(connection.received.toString().endsWith("bye"));
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
      await instance.output.until((output) => output.stdout.includes(`- ${id}\n`));
      assert.match(instance.output.stdout, new RegExp(`\\+ ${id}\\njoined\\nheard last\\n.*- ${id}\\n`));
    });
  });

  describe(`${runtime.name}: TypeScript that was transpiled`, () => {
    it("shows stacks by the lines that its author wrote", async (t) => {
      const map = { version: 3, sources: ["index.ts"], names: [], mappings: ";;;AAUA" };
      const inline = Buffer.from(JSON.stringify(map)).toString("base64");
      const code = codeOf(t, {
        "index.mjs": `export default () => {\nfail();\n};\nfunction fail() { throw new Error("typed"); }\n//# sourceMappingURL=data:application/json;base64,${inline}\n`,
      });
      const instance = await serving(t, runtime, code);
      await instance.request({});
      await instance.output.until((output) => output.stderr.includes("typed"));
      assert.match(instance.output.stderr, /index\.ts:11/);
    });

    // Line 4 of the file is line 11 of its source.
    const mapped = (source: string): Record<string, string> => ({
      "dist/lib.mjs": `export function fail() {\n}\n\n${source}\n//# sourceMappingURL=lib.mjs.map\n`,
      "dist/lib.mjs.map": JSON.stringify({ version: 3, sources: ["../src/lib.ts"], names: [], mappings: ";;;AAUA" }),
    });

    it("does so too where only an imported file was transpiled", async (t) => {
      const code = codeOf(t, {
        "index.mjs": 'import { work } from "./dist/lib.mjs";\nexport default () => work();\n',
        ...mapped('export function work() { throw new Error("typed", { cause: new Error("cause") }); }'),
      });
      const instance = await serving(t, runtime, code);
      await instance.request({});
      await instance.output.until((output) => output.stderr.includes("cause"));
      assert.match(instance.output.stderr, /\/src\/lib\.ts:11:1\)?\n.*index\.mjs:2:/);
      assert.doesNotMatch(instance.output.stderr, /lib\.mjs/);
    });

    it("says so of what fails to load", async (t) => {
      const code = codeOf(t, {
        "index.mjs": 'import "./dist/lib.mjs";\nexport default () => 1;\n',
        ...mapped('throw new Error("no database");'),
      });
      const { failed } = await failing(t, runtime, code);
      assert.equal(failed.message, "no database (src/lib.ts:11)");
    });
  });
}
