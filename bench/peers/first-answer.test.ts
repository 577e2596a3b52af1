// Asking a server until it answers: what counts as an answer, and when it is given up.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { firstAnswer, isWhole, problemOf } from "./first-answer.ts";

test("an answer is whole when its content-length is there, and only then", () => {
  const head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n";
  assert.deepEqual(
    [head, `${head}\r\n`, `${head}\r\nhell`, `${head}\r\nhello`, "HTTP/1.1 200 OK\r\n\r\nhello"].map(isWhole),
    [false, false, false, true, false],
  );
});

test("an answer that is no hello is a problem, with its words", () => {
  assert.equal(problemOf("HTTP/1.1 200 OK\r\n\r\nhello"), undefined);
  assert.match(problemOf("HTTP/1.1 502 Bad Gateway\r\n\r\nhello") ?? "", /502 Bad Gateway/);
  assert.match(problemOf("HTTP/1.1 200 OK\r\nx: hello\r\n\r\nbye") ?? "", /bye/);
});

test("a server that comes later is found, one that answers something else is told, and nobody is asked for ever", async () => {
  const server = createServer((request, response) =>
    response.writeHead(request.headers.host === "hello" ? 200 : 500).end("hello"),
  );
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  await once(server.close(), "close");
  let asked = 0;
  await assert.rejects(
    firstAnswer(port, "hello", 60_000, () => (asked++ < 3 ? undefined : "it ended")),
    /^Error: it ended$/,
  );
  await assert.rejects(firstAnswer(port, "hello", 5), /no answer within 0\.005 s/);
  // Listens when it has been asked in vain.
  asked = 0;
  await firstAnswer(port, "hello", 60_000, () => {
    if (asked++ === 2) server.listen(port, "127.0.0.1");
    return undefined;
  });
  await assert.rejects(firstAnswer(port, "other", 60_000), /it answered: HTTP\/1\.1 500/);
  await once(server.close(), "close");
});
