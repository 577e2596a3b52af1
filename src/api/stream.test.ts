// A long list is made as it is taken, in pieces between which others have their turn.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type TestContext } from "node:test";
import { createServer, request } from "#lib/http.ts";
import { rowsATurn, streamArray } from "./stream.ts";

interface Listed {
  readonly answer: IncomingMessage;
  /** Rows that were made so far, and the most of them in one turn of the loop. */
  readonly made: () => number;
  readonly mostATurn: () => number;
}

async function list(context: TestContext, count: number, text = "", failAt = -1): Promise<Listed> {
  const items = Array.from({ length: count }, (_, index) => index);
  let [made, inTurn, most] = [0, 0, 0];
  const row = (index: number): object => {
    if (index === failAt) throw new Error("no such row");
    // Between two rows of one turn no immediate runs.
    if (inTurn === 0) setImmediate(() => (inTurn = 0));
    made++;
    most = Math.max(most, ++inTurn);
    return { index, text };
  };
  const server = createServer((_, raw) => void streamArray({ raw, hijack: () => reply }, items, row));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `hijack` answers the reply, which nobody reads here
  const reply = undefined as never;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  const { port } = server.address() as AddressInfo;
  const sent = request({ port, host: "127.0.0.1" }).end();
  const [answer] = (await once(sent, "response")) as [IncomingMessage];
  return { answer, made: () => made, mostATurn: () => most };
}

async function textOf(answer: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of answer.setEncoding("utf8")) text += chunk as string;
  return text;
}

test("every row is in the array once, in order, whether there are none, some or many", async (context) => {
  for (const count of [0, 1, rowsATurn, rowsATurn + 1, 10 * rowsATurn]) {
    const { answer } = await list(context, count);
    const rows = JSON.parse(await textOf(answer)) as { index: number }[];
    assert.deepEqual(
      rows.map(({ index }) => index),
      Array.from({ length: count }, (_, index) => index),
    );
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.match(answer.headers["content-type"] ?? "", /^application\/json/);
  }
});

test("no turn of the loop makes more rows than its share", async (context) => {
  const { answer, made, mostATurn } = await list(context, 50 * rowsATurn);
  await textOf(answer);
  assert.deepEqual([made(), mostATurn()], [50 * rowsATurn, rowsATurn]);
});

test("for a client that does not read, rows are not made", async (context) => {
  const count = 5_000 * rowsATurn;
  const { answer, made } = await list(context, count, "x".repeat(1_000));
  for (let before = -1; before !== made();) {
    before = made();
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(made() < count / 10, `${made()} rows of ${count} were made`);
  answer.destroy();
});

test("a list whose row cannot be made breaks off, and is no array", async (context) => {
  const { answer } = await list(context, 3 * rowsATurn, "", 2 * rowsATurn);
  await assert.rejects(textOf(answer), { code: "ECONNRESET" });
});
