// Requests with random damage, in random pieces: whatever arrives, functions see well-formed requests alone, and the next one is served.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Front } from "./front.testing.ts";

const valid = [
  "GET /a?b=c HTTP/1.1\r\nhost: hello.localhost\r\nx: y\r\n\r\n",
  "POST /p HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: 5\r\n\r\nhello",
  "POST /c HTTP/1.1\r\nHost: hello.localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "GET http://hello.localhost/ HTTP/1.1\r\nhost: hello.localhost\r\nconnection: close\r\n\r\n",
  "OPTIONS /run/default/hello HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nz",
];
const splices = [
  "\r\n",
  "\n",
  "\r",
  "\0",
  " ",
  ":",
  "host: x\r\n",
  "content-length: 3\r\n",
  "Transfer-Encoding: chunked\r\n",
  "GET / HTTP/1.1\r\n\r\n",
  "\x80",
  "0\r\n\r\n",
  "%",
  "/../",
  "\t",
];

const damage = fc.record({ at: fc.nat(400), cut: fc.nat(6), put: fc.constantFrom("", ...splices) });
const request = fc
  .record({
    base: fc.array(fc.constantFrom(...valid), { minLength: 1, maxLength: 3 }),
    damages: fc.array(damage, { maxLength: 4 }),
  })
  .map(({ base, damages }) =>
    damages.reduce(
      (text, { at, cut, put }) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut),
      base.join(""),
    ),
  );

test("the gateway outlives 3,000 damaged requests, and lets nothing malformed through", async () => {
  const front = await new Front().listen();
  await front.echo({ concurrency: 1_000 });
  try {
    await fc.assert(
      fc.asyncProperty(request, fc.array(fc.nat(400), { maxLength: 5 }), async (text, cuts) => {
        const socket = front.open();
        let received = "";
        const over = Promise.withResolvers<void>();
        socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
        socket.on("close", () => over.resolve()).on("error", () => over.resolve());
        const places = [0, ...cuts.map((cut) => cut % (text.length + 1)).toSorted((a, b) => a - b), text.length];
        for (const [i, from] of places.slice(0, -1).entries()) socket.write(text.slice(from, places[i + 1]), "latin1");
        socket.end();
        await over.promise;
        for (const answer of received.matchAll(/"url":"([^"]*)"/g)) assert.match(answer[1]!, /^\/[\x21-\x7e]*$/);
        if (received !== "") assert.match(received, /^HTTP\/1\.1 \d{3} /);
        assert.doesNotMatch(received, /"code":"internal"/);
      }),
      { numRuns: 3_000 },
    );
    assert.equal((await front.get("/")).status, 200);
    assert.deepEqual(
      front.world.facts.filter(({ kind }) => kind === "defect"),
      [],
    );
  } finally {
    await front.stop();
  }
});
