// The event style: what a handler gets, and what becomes of what it answers.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import { header, headersOf } from "./client.ts";
import { newId } from "./instance.ts";
import { itOf, type Runtime, handlersFolder, shared } from "./support.ts";

const MiB = 1024 * 1024;

export function eventSuite(runtime: Runtime): void {
  describe(`${runtime.name}: the event style`, { concurrency: 1 }, () => event(runtime));
}

function event(runtime: Runtime): void {
  const it = itOf(runtime);
  const plain = shared(runtime, path.join(handlersFolder, runtime.language, "event"));

  describe(`${runtime.name}: the event`, { concurrency: 1 }, () => {
    it("has the names of version 2.0 and those of version 1", async () => {
      const instance = await plain();
      const id = newId();
      const headers = [
        ["cookie", "a=1; b=2"],
        ["x-many", "1"],
        ["x-many", "2"],
        ["x-forwarded-for", "192.0.2.7, 10.0.0.1"],
        ["content-type", "application/json"],
      ] as const;
      const answer = await instance.request({
        method: "POST",
        target: "/event?a=1&b=x%20y&a=2&c",
        id,
        headers,
        body: '{"k":1}',
      });
      const event = JSON.parse(answer.text);
      assert.equal(header(answer, "content-type"), "application/json");
      assert.equal(event.version, "2.0");
      assert.equal(event.httpMethod, "POST");
      assert.equal(event.requestContext.http.method, "POST");
      assert.equal(event.path, "/event");
      assert.equal(event.rawPath, "/event");
      assert.equal(event.resource, "/event");
      assert.equal(event.rawQueryString, "a=1&b=x%20y&a=2&c");
      assert.deepEqual(event.queryStringParameters, { a: "1,2", b: "x y", c: "" });
      assert.deepEqual(event.multiValueQueryStringParameters, { a: ["1", "2"], b: ["x y"], c: [""] });
      assert.deepEqual(event.cookies, ["a=1", "b=2"]);
      assert.equal(event.headers["x-many"], "1,2");
      assert.equal(event.headers.host, "hello.localhost:8080");
      assert.equal(event.requestContext.requestId, id);
      assert.equal(event.requestContext.http.sourceIp, "192.0.2.7");
      assert.equal(event.body, '{"k":1}');
      assert.equal(event.isBase64Encoded, false);
    });

    it("carries a body that is not text as base64, and no body as null", async () => {
      const instance = await plain();
      const bytes = Buffer.from([0, 255, 254]);
      const binary = JSON.parse((await instance.request({ target: "/event", body: bytes })).text);
      assert.equal(binary.isBase64Encoded, true);
      assert.deepEqual(Buffer.from(binary.body, "base64"), bytes);
      const typed = JSON.parse(
        (await instance.request({ target: "/event", headers: [["content-type", "image/png"]], body: "ascii" })).text,
      );
      assert.equal(typed.isBase64Encoded, true);
      const none = JSON.parse((await instance.request({ target: "/event" })).text);
      assert.equal(none.body, null);
      assert.deepEqual(none.queryStringParameters, {});
    });

    it("comes with a context that knows the invocation and its time", async () => {
      const instance = await plain();
      const id = newId();
      const context = JSON.parse((await instance.request({ target: "/context", id, deadlineMs: 5_000 })).text);
      assert.equal(context.id, id);
      assert.equal(context.name, "hello");
      assert.equal(context.memory, 256);
      assert.ok(context.remaining > 0 && context.remaining <= 5_000);
    });

    it("is the parsed body itself where another trigger sends it, and the result is JSON", async () => {
      const instance = await plain();
      const answer = await instance.request({
        trigger: "schedule",
        headers: [
          ["content-type", "application/json"],
          ["ce-type", "tick"],
        ],
        body: '{"a":[1]}',
      });
      assert.deepEqual(JSON.parse(answer.text), { input: { a: [1] }, trigger: "schedule" });
      const failed = await instance.request({
        trigger: "schedule",
        headers: [["content-type", "application/json"]],
        body: '{"fail":true}',
      });
      assert.equal(failed.status, 500);
      const empty = await instance.request({ trigger: "queue", method: "POST" });
      assert.deepEqual(JSON.parse(empty.text), { input: {}, trigger: "queue" });
    });

    it("is refused with 413 where its body is larger than the limit, said or not", async () => {
      const instance = await plain();
      const fits = await instance.request({
        target: "/length",
        headers: [["content-type", "text/plain"]],
        body: Buffer.alloc(6 * MiB, "x"),
      });
      assert.equal(fits.text, String(6 * MiB));
      const connection = await instance.connect();
      connection.socket.write(
        connection.head({ method: "POST", target: "/length" }, `content-length: ${6 * MiB + 1}\r\n`),
      );
      const answer = await connection.response();
      assert.equal(answer.status, 413);
      assert.equal(JSON.parse(answer.text).code, "payload_too_large");
      assert.equal(header(answer, "ebb-done"), "1");
      const chunked = await instance.connect();
      chunked.socket.write(chunked.head({ method: "POST", target: "/length" }, "transfer-encoding: chunked\r\n"));
      for (let i = 0; i < 7; i++)
        chunked.socket.write(
          Buffer.concat([Buffer.from(`${MiB.toString(16)}\r\n`), Buffer.alloc(MiB), Buffer.from("\r\n")]),
        );
      assert.equal((await chunked.response()).status, 413);
      assert.equal((await instance.request({ target: "/text" })).text, "plain", "it goes on serving");
    });
  });

  describe(`${runtime.name}: the answer to an event`, { concurrency: 1 }, () => {
    it("is taken apart where it has a statusCode", async () => {
      const instance = await plain();
      const answer = await instance.request({ target: "/structured" });
      assert.equal(answer.status, 201);
      assert.equal(answer.text, "made");
      assert.equal(header(answer, "x-one"), "1");
      assert.deepEqual(headersOf(answer, "x-many"), ["a", "b"]);
      assert.deepEqual(headersOf(answer, "set-cookie"), ["c=3"]);
      const object = await instance.request({ target: "/object-body" });
      assert.equal(header(object, "content-type"), "application/json");
      assert.deepEqual(JSON.parse(object.text), { a: 1 });
      const binary = await instance.request({ target: "/base64" });
      assert.deepEqual(binary.body, Buffer.from([0, 255, 1]));
      assert.equal(header(binary, "content-type"), "image/png");
    });

    it("is sent as text or JSON where it is a bare value", async () => {
      const instance = await plain();
      const text = await instance.request({ target: "/text" });
      assert.equal(text.text, "plain");
      assert.equal(header(text, "content-type"), "text/plain; charset=utf-8");
      assert.equal((await instance.request({ target: "/number" })).text, "42");
      const object = await instance.request({ target: "/object" });
      assert.deepEqual(JSON.parse(object.text), { a: [1, 2] });
      assert.equal(header(object, "content-type"), "application/json");
      const nothing = await instance.request({ target: "/nothing" });
      assert.equal(nothing.status, 200);
      assert.equal(nothing.body.length, 0);
    });

    for (const [target, what] of [
      ["/circular", /cannot be written as JSON/],
      ["/bad-status", /statusCode is 99/],
      ["/bad-header", /x-bad/],
      ["/throw", /boom/],
    ] as const) {
      it(`is a function error for ${target}`, async () => {
        const instance = await plain();
        const answer = await instance.request({ target });
        assert.equal(answer.status, 500);
        assert.equal(header(answer, "ebb-error"), "function");
        assert.equal(header(answer, "ebb-done"), "1");
        assert.equal(header(answer, "set-cookie"), undefined);
        assert.match(JSON.parse(answer.text).detail, what);
        await instance.output.until((output) => what.test(output.stderr));
      });
    }

    it("is waited for after the client has gone, and told to ebb", async () => {
      const instance = await plain();
      const id = newId();
      const connection = await instance.connect();
      connection.send({ target: "/hang", id });
      await instance.output.until((output) => output.stdout.includes("hanging"));
      connection.close();
      await instance.done(id);
      assert.equal((await instance.request({ target: "/text" })).text, "plain");
    });
  });
}
