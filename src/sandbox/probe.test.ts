// When a program is taken to serve, and what is said where it does not.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterEach, test } from "node:test";
import { createServer as createHttpServer } from "#lib/http.ts";
import { Startup } from "./probe.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listening(server: Server): Promise<number> {
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on an address
  return (server.address() as AddressInfo).port;
}

const startupOf = (port: number, path?: string): Startup =>
  new Startup({ address: "127.0.0.1", port, probe: path === undefined ? { tcp: true } : { http: path } });

/** Until it has been asked so often. */
function after(count: number, server: Server, event: string): AbortSignal {
  const giveUp = new AbortController();
  let seen = 0;
  server.on(event, () => {
    seen += 1;
    if (seen === count) setImmediate(() => setImmediate(() => giveUp.abort()));
  });
  return giveUp.signal;
}

test("a port that takes connections serves; a path serves when it answers 2xx or 3xx", async () => {
  let asked = 0;
  const port = await listening(
    createHttpServer((_request, response) => {
      asked += 1;
      response.statusCode = [503, 404, 302][asked - 1] ?? 500;
      response.end();
    }),
  );
  const never = new AbortController().signal;
  assert.equal(await startupOf(port).serves(never), true);
  assert.equal(asked, 0);
  assert.equal(await startupOf(port, "/ready").serves(never), true);
  assert.equal(asked, 3);
});

test("what never listens, never is well and speaks no HTTP is told apart", async () => {
  const deaf = startupOf(1);
  assert.equal(await deaf.serves(AbortSignal.timeout(20)), false);
  assert.equal(deaf.words(28_000).message, "Nothing listened on port 1 within 28 s.");

  const sick = createHttpServer((_request, response) => void response.writeHead(503).end());
  const unwell = startupOf(await listening(sick), "/healthz");
  assert.equal(await unwell.serves(after(3, sick, "request")), false);
  assert.equal(
    unwell.words(28_000).message,
    "The probe GET /healthz did not pass within 28 s: the last answer was 503.",
  );

  const strange = createServer((socket) => void socket.on("error", () => {}).end("what?\r\n\r\n"));
  const other = startupOf(await listening(strange), "/");
  assert.equal(await other.serves(after(4, strange, "connection")), false);
  assert.equal(other.words(1_000).message, "The probe GET / did not pass within 1 s: its answer was no HTTP.");
});
