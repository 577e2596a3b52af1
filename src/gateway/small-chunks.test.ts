// Bodies in tiny chunks: what would cost a write for each byte goes on as one, in order and complete.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { testRevision } from "#activator/world.testing.ts";
import { Front } from "./front.testing.ts";

const count = 10_000;
let front: Front;
before(async () => {
  front = await new Front().listen();
  const revision = front.world.deploy(testRevision({ concurrency: 10 }, 1, "hello"));
  await front.world.start(revision, (request, response) => {
    if (request.url === "/drip") {
      response.cork();
      for (let i = 0; i < count; i++) response.write(String(i % 10));
      response.uncork();
      response.end();
      return;
    }
    let chunks = 0;
    let body = "";
    request.on("data", (chunk: Buffer) => {
      chunks += 1;
      body += chunk.toString("latin1");
    });
    request.on("end", () => response.end(JSON.stringify({ chunks, body })));
  });
});
after(() => front.stop());

const each = Array.from({ length: count }, (_, i) => String(i % 10));
const digits = each.join("");

test("an answer in chunks of one byte goes out in few, in order", async () => {
  const text = await front.raw("GET /drip HTTP/1.1\r\nhost: hello.localhost\r\n\r\n");
  const chunks = [...text.slice(text.indexOf("\r\n\r\n") + 4).matchAll(/([0-9a-f]+)\r\n(\d+)\r\n/g)];
  assert.equal(chunks.map((match) => match[2]).join(""), digits);
  assert.ok(chunks.length < count / 10, `${chunks.length} chunks`);
});

test("a request in chunks of one byte goes in in few, in order", async () => {
  const body = each.map((digit) => `1\r\n${digit}\r\n`).join("");
  const text = await front.raw(
    `POST / HTTP/1.1\r\nhost: hello.localhost\r\ntransfer-encoding: chunked\r\n\r\n${body}0\r\n\r\n`,
  );
  const seen = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1)) as { chunks: number; body: string };
  assert.equal(seen.body, digits);
  assert.ok(seen.chunks < count / 10, `${seen.chunks} chunks`);
});
