// Requests with random damage, in random pieces: whatever arrives, functions see well-formed requests alone, and the next one is served.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Front } from "./front.testing.ts";
import { damagedRequests, piecesOf } from "./http1/damage.testing.ts";

test("the gateway outlives 3,000 damaged requests, and lets nothing malformed through", async () => {
  const front = await new Front().listen();
  await front.echo({ concurrency: 1_000 });
  try {
    await fc.assert(
      fc.asyncProperty(damagedRequests, piecesOf, async (text, cut) => {
        const socket = front.open();
        let received = "";
        const over = Promise.withResolvers<void>();
        socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
        socket.on("close", () => over.resolve()).on("error", () => over.resolve());
        for (const piece of cut(text)) socket.write(piece, "latin1");
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
