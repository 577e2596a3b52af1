// Pages of other origins: whose answer a browser's preflight gets, and what it allows.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Front, readAnswer, type RawAnswer } from "./front.testing.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({ public: true });
  await front.echo({ public: false }, "secret");
});
after(() => front.stop());

const asked = {
  origin: "https://app.example.com",
  "access-control-request-method": "PUT",
  "access-control-request-headers": "content-type,ebb-token",
};

async function options(host: string, headers: Record<string, string> = asked, path = "/x"): Promise<RawAnswer> {
  const lines = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return readAnswer(await front.raw(`OPTIONS ${path} HTTP/1.1\r\n${lines.join("")}\r\n`));
}

/** Without what differs from one answer to the next. */
function lasting(answer: RawAnswer): string {
  return answer.head.replace(/\r\ndate: [^\r]*/, "");
}

test("a private workload's preflight is allowed by ebb, with the method and headers it asks for, and nothing runs", async () => {
  const begun = front.world.marks.begun.size;
  const answer = await options("secret.localhost");
  assert.equal(answer.status, 204);
  assert.match(answer.head, /\r\naccess-control-allow-origin: \*\r\n/);
  assert.match(answer.head, /\r\naccess-control-allow-methods: put\r\n/);
  assert.match(answer.head, /\r\naccess-control-allow-headers: content-type,ebb-token\r\n/);
  assert.match(answer.head, /\r\naccess-control-max-age: 600\r\n/);
  assert.doesNotMatch(answer.head, /allow-credentials|content-length|ebb-invocation-id/);
  assert.equal(front.world.marks.begun.size, begun);
});

test("a preflight tells nothing of whether the private workload exists", async () => {
  const there = await options("secret.localhost");
  for (const host of ["nope.localhost", "nope--nowhere.localhost"])
    assert.equal(lasting(await options(host)), lasting(there), host);
});

test("by path it is answered alike", async () => {
  const byPath = await options("localhost", asked, "/run/default/secret/x");
  assert.equal(lasting(byPath), lasting(await options("secret.localhost")));
});

test("no header asked for, none allowed", async () => {
  const { origin, "access-control-request-method": method } = asked;
  const answer = await options("secret.localhost", { origin, "access-control-request-method": method });
  assert.equal(answer.status, 204);
  assert.doesNotMatch(answer.head, /allow-headers/);
});

test("a public workload answers its preflights itself", async () => {
  const { json, head } = await options("hello.localhost");
  const { method, headers } = json as unknown as { method: string; headers: Record<string, string> };
  assert.deepEqual([method, headers["origin"]], ["OPTIONS", asked.origin]);
  assert.doesNotMatch(head, /access-control/);
});

const others: ReadonlyArray<[name: string, headers: Record<string, string>, status: number]> = [
  ["without Origin", { "access-control-request-method": "PUT" }, 401],
  ["without a method asked for", { origin: "https://app.example.com" }, 401],
  ["with two methods", { ...asked, "access-control-request-method": "PUT, GET" }, 401],
  ["with a header that is no name", { ...asked, "access-control-request-headers": "a b" }, 401],
  ["with a token: it is a call", { ...asked, "ebb-token": "good" }, 200],
  ["with a token that is none", { ...asked, "ebb-token": "bad" }, 401],
  ["with a token in Authorization", { ...asked, authorization: "Bearer ebb_x" }, 401],
];
for (const [name, headers, status] of others) {
  test(`OPTIONS ${name} is no preflight: ${status}`, async () => {
    assert.equal((await options("secret.localhost", headers)).status, status);
  });
}

test("inside there are no browsers: OPTIONS is a call like any other", async () => {
  const lines = Object.entries({ host: "secret.ebb.internal", ...asked }).map(([k, v]) => `${k}: ${v}\r\n`);
  const text = `OPTIONS / HTTP/1.1\r\n${lines.join("")}ebb-credential: cred-i1\r\n\r\n`;
  assert.equal(readAnswer(await front.raw(text, { internal: true })).status, 200);
});

test("the connection goes on after a preflight", async () => {
  const lines = Object.entries({ host: "secret.localhost", ...asked }).map(([k, v]) => `${k}: ${v}\r\n`);
  const text = await front.raw(
    `OPTIONS / HTTP/1.1\r\n${lines.join("")}\r\nPUT / HTTP/1.1\r\nhost: secret.localhost\r\nebb-token: good\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi`,
    { answers: 9 },
  );
  assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 204", "HTTP/1.1 200"]);
});
