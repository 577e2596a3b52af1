// What a client makes of answers: values, lines as they come, and sentences where something is wrong.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ClientError, createTransport, type Answer, type SentRequest, type Transport } from "./transport.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** `pieces` of the body; an Error among them is thrown there. */
function answering(
  pieces: readonly (string | Error)[],
  more: Partial<Answer> = {},
): { readonly transport: Transport; readonly sent: SentRequest[] } {
  const sent: SentRequest[] = [];
  async function* body(): AsyncGenerator<Uint8Array, void> {
    for (const piece of pieces) {
      if (piece instanceof Error) throw piece;
      yield bytes(piece);
    }
  }
  const transport = createTransport({
    url: "http://ebb.test:8080",
    token: "secret",
    send: async (request) => {
      sent.push(request);
      return { status: 200, statusText: "OK", contentType: "application/json", body: body(), ...more };
    },
  });
  return { transport, sent };
}

test("a question goes out with its token, its query and its body, and the answer comes back as a value", async () => {
  const { transport, sent } = answering(['{"a":', "1}"]);
  const query = { since: 5, kind: ["x", "y z"], none: null };
  assert.deepEqual(await transport.json("/api/v1/things", { method: "POST", query, json: { b: 2 } }), { a: 1 });
  const [{ url, method, headers, body }] = sent as [SentRequest];
  assert.equal(url.href, "http://ebb.test:8080/api/v1/things?since=5&kind=x&kind=y+z");
  assert.deepEqual([method, body], ["POST", '{"b":2}']);
  assert.deepEqual(headers, { authorization: "Bearer secret", "content-type": "application/json" });
});

test("lines come one by one, wherever the bytes are cut, also inside of a character", async () => {
  const [first, second] = [bytes('{"n":"é').slice(0, -1), bytes("é").slice(-1)];
  async function* body(): AsyncGenerator<Uint8Array, void> {
    yield bytes('{"n":1}\n\n{"n"');
    yield bytes(":2}\n");
    yield first;
    yield second;
    yield bytes('"}');
  }
  const { transport } = answering([], { body: body() });
  const lines: unknown[] = [];
  for await (const line of transport.lines("/")) lines.push(line);
  assert.deepEqual(lines, [{ n: 1 }, { n: 2 }, { n: "é" }]);
});

test("a refusal is told in the words of its problem, or by its status where it has none", async () => {
  const problem = JSON.stringify({ code: "not_found", detail: "There is no such thing.", status: 404 });
  const refused = answering([problem], { status: 404, contentType: "application/problem+json" }).transport;
  await assert.rejects(refused.json("/"), { name: "ClientError", message: "There is no such thing.", status: 404 });
  const strange = answering(["<h1>"], { status: 502, statusText: "Bad Gateway", contentType: "text/html" }).transport;
  await assert.rejects(strange.text("/"), { message: "502 Bad Gateway from http://ebb.test:8080", problem: null });
  const moved = answering([""], { status: 301, statusText: "Moved", contentType: "" }).transport;
  await assert.rejects(moved.nothing("/"), { message: "301 Moved from http://ebb.test:8080" });
});

test("an answer that breaks off is told in a sentence, and one that was given up stays what it was", async () => {
  const broken = answering(['{"a":', new Error("aborted")]).transport;
  await assert.rejects(broken.json("/"), (error) => {
    assert.ok(error instanceof ClientError);
    assert.equal(error.message, "http://ebb.test:8080 broke off in the middle of its answer");
    return true;
  });
  const gaveUp = new AbortController();
  gaveUp.abort();
  const left = answering([new DOMException("given up", "AbortError")]).transport;
  await assert.rejects(left.text("/", { signal: gaveUp.signal }), { name: "AbortError" });
});

test("where nobody answers the sentence says what to do", async () => {
  const transport = createTransport({
    url: "http://ebb.test:8080",
    token: "secret",
    send: () => Promise.reject(Object.assign(new Error("connect"), { code: "ECONNREFUSED" })),
  });
  await assert.rejects(transport.json("/"), {
    message: "nothing answers at http://ebb.test:8080; is ebb up? Start it with: ebb up",
    status: null,
  });
});
