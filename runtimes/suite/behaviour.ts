// What every runtime does with a request: bodies, heads, streams, errors, aborts, limits.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import { header, headersOf } from "./client.ts";
import { newId } from "./instance.ts";
import { itOf, type Runtime, handlersFolder, shared } from "./support.ts";

const MiB = 1024 * 1024;

export function behaviourSuite(runtime: Runtime): void {
  describe(`${runtime.name}: behaviour`, { concurrency: 1 }, () => behaviour(runtime));
}

function behaviour(runtime: Runtime): void {
  const it = itOf(runtime);
  const code = path.join(handlersFolder, runtime.language, "behaviour");
  const plain = shared(runtime, code, { env: { SECRET: "s3cret" } });
  /** For what needs a second request to look at the first from beside it. */
  const pair = shared(runtime, code, { concurrency: 2 });

  describe(`${runtime.name}: requests`, { concurrency: 1 }, () => {
    it("hands the method, headers and body in, and status, headers and body out", async () => {
      const instance = await plain();
      const answer = await instance.request({
        method: "PUT",
        target: "/echo",
        headers: [
          ["content-type", "text/plain"],
          ["x-in", "yes"],
        ],
        body: "héllo",
      });
      assert.equal(answer.status, 200);
      assert.equal(answer.text, "héllo");
      assert.equal(header(answer, "content-type"), "text/plain");
      assert.equal(header(answer, "x-method"), "PUT");
      assert.equal(header(answer, "x-in"), "yes");
    });

    it("takes spaces and tabs from around a header's value, and no byte of it", async () => {
      const instance = await plain();
      // UTF-8 on the wire: the last byte is 0xa0, which in Latin-1 is a blank of another kind.
      const value = Buffer.from("à déjà").toString("latin1");
      const answer = await instance.request({ target: "/echo", headers: [["x-in", ` \t${value}\t `]] });
      assert.equal(header(answer, "x-in"), value);
    });

    it("carries binary bodies unchanged", async () => {
      const instance = await plain();
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 256));
      const answer = await instance.request({ target: "/echo", body: bytes });
      assert.deepEqual(answer.body, bytes);
    });

    it("keeps repeated headers apart, and a status other than 200", async () => {
      const instance = await plain();
      const answer = await instance.request({ target: "/cookies" });
      assert.equal(answer.status, 201);
      assert.deepEqual(headersOf(answer, "set-cookie"), ["a=1", "b=2"]);
    });

    it("serves one request after the other on one connection, also such as were sent ahead", async () => {
      const instance = await plain();
      const connection = await instance.connect();
      for (const text of ["one", "two", "three"]) connection.send({ target: "/echo", body: text });
      for (const text of ["one", "two", "three"]) assert.equal((await connection.response()).text, text);
    });

    it("answers HEAD and 204 without a body", async () => {
      const instance = await plain();
      const connection = await instance.connect();
      const head = await connection.request({ method: "HEAD", target: "/cookies" });
      assert.equal(head.status, 201);
      const none = await connection.request({ target: "/none" });
      assert.equal(none.status, 204);
      assert.equal(header(none, "content-length"), undefined);
      assert.equal((await connection.request({ target: "/cookies" })).text, "created");
    });

    it("streams both ways at once", async () => {
      const instance = await plain();
      const id = newId();
      const connection = await instance.connect();
      connection.socket.write(
        connection.head({ method: "POST", target: "/pipe", id }, "transfer-encoding: chunked\r\n"),
      );
      connection.socket.write("3\r\nabc\r\n");
      await connection.responseHead();
      assert.equal((await connection.chunk())?.toString(), "ABC");
      connection.socket.write("3\r\ndef\r\n0\r\n\r\n");
      assert.equal((await connection.chunk())?.toString(), "DEF");
      assert.equal((await connection.chunk())?.length, 0);
      await instance.done(id);
    });

    it("stops producing while nobody reads, and goes on when somebody does", async () => {
      const instance = await pair();
      const total = 64 * MiB;
      const connection = await instance.connect();
      connection.socket.pause();
      connection.send({ target: `/flood?bytes=${total}` });
      const other = await instance.connect();
      let produced = -1;
      for (let same = 0; same < 20;) {
        const now = Number((await other.request({ target: "/produced" })).text);
        same = now === produced && now > 0 ? same + 1 : 0;
        produced = now;
      }
      assert.ok(produced < total / 4, `${produced} bytes were produced for a client that does not read`);
      // Counted as it comes: collecting it as a test client does would be quadratic.
      let received = 0;
      connection.socket.removeAllListeners("data");
      await new Promise<void>((resolve) => {
        connection.socket.on("data", (chunk: Buffer) => {
          received += chunk.length;
          if (chunk.subarray(-5).toString() === "0\r\n\r\n") resolve();
        });
        connection.socket.resume();
      });
      assert.ok(received > total);
    });

    it("leaves a request's body in the socket while the handler does not read it", async () => {
      const instance = await pair();
      const total = 32 * MiB;
      const connection = await instance.connect();
      connection.socket.write(connection.head({ method: "POST", target: "/slurp" }, `content-length: ${total}\r\n`));
      await instance.output.until((output) => output.frames.some((frame) => frame.m.includes("slurping")));
      connection.socket.write(Buffer.alloc(total));
      const other = await instance.connect();
      for (let i = 0; i < 20; i++) await other.request({ target: "/produced" });
      assert.ok(connection.socket.writableLength > total / 2, "the body was taken although nobody reads it");
      await other.request({ target: "/go" });
      assert.equal((await connection.response()).text, String(total));
    });

    it("answers 500 with a problem, and writes the stack with the handler's file and line", async () => {
      const instance = await plain();
      const answer = await instance.request({ target: "/throw" });
      assert.equal(answer.status, 500);
      assert.equal(header(answer, "content-type"), "application/problem+json");
      assert.equal(header(answer, "ebb-error"), "function");
      assert.deepEqual(JSON.parse(answer.text), {
        type: "about:blank",
        title: "Function error",
        status: 500,
        code: "function_error",
        detail: "boom in the handler",
      });
      await instance.output.until((output) => /boom in the handler[^]*- .*\n/.test(output.stderr));
      assert.match(instance.output.stderr, /(?:behaviour|task)\/(?:index\.mjs|app\.py)"?(?::|, line )\d+/);
      assert.doesNotMatch(instance.output.stderr, /runtimes?\/(?:node|python)\//, "the shim's own frames are shown");
      assert.equal((await instance.request({ target: "/none" })).status, 204, "it goes on serving");
    });

    it("is done with each request that fails, and goes on serving", async () => {
      const instance = await plain();
      for (let i = 0; i < 3; i++) assert.equal(header(await instance.request({ target: "/throw" }), "ebb-done"), "1");
      assert.equal((await instance.request({ target: "/none" })).status, 204);
    });

    it("cuts an answer that fails half-way, and is done with it", async () => {
      const instance = await plain();
      const id = newId();
      const answer = await instance.request({ target: "/throw-late", id });
      assert.equal(answer.cut, true);
      await instance.done(id);
      await instance.output.until((output) => output.stderr.includes("boom in the stream"));
    });

    it("tells the handler when the client goes, and ebb when the handler is done with it", async () => {
      const instance = await plain();
      const id = newId();
      const connection = await instance.connect();
      connection.send({ target: "/hang", id });
      await instance.output.until((output) => output.stdout.includes("hanging"));
      connection.close();
      await instance.done(id);
      await instance.output.until((output) => output.stdout.includes(`- ${id}`));
      assert.match(instance.output.stdout, /hanging\naborted\n/);
    });

    it("is done in the head of a complete answer, or by a word when work goes on after it", async () => {
      const instance = await pair();
      const [first, second] = [newId(), newId()];
      const told = (): string[] => instance.told.filter((id) => [first, second].includes(id));
      const connection = await instance.connect();
      const plain = await connection.request({ target: "/cookies", id: first });
      assert.equal(header(plain, "ebb-done"), "1");
      const early = await connection.request({ target: "/wait-until", id: second });
      assert.equal(early.text, "early");
      assert.equal(header(early, "ebb-done"), undefined);
      assert.deepEqual(told(), []);
      await connection.request({ target: "/go" });
      await instance.done(second);
      assert.deepEqual(told(), [second]);
    });

    it("says done again when the connection closes, for an ebb that had not read it", async () => {
      const instance = await plain();
      const id = newId();
      const connection = await instance.connect();
      assert.equal(header(await connection.request({ target: "/none", id }), "ebb-done"), "1");
      connection.close();
      await instance.done(id);
    });

    it("knows the environment of the assignment, and not the daemon's", async () => {
      const instance = await plain();
      assert.equal((await instance.request({ target: "/env?name=SECRET" })).text, "s3cret");
      assert.equal((await instance.request({ target: "/env?name=EBB_WORKLOAD" })).text, "hello");
      assert.equal((await instance.request({ target: "/env?name=USER" })).text, "unset");
    });

    it("closes the connection of a body that the handler did not read", async () => {
      const instance = await plain();
      const connection = await instance.connect();
      connection.socket.write(connection.head({ method: "POST", target: "/none" }, `content-length: ${MiB}\r\n`));
      connection.socket.write(Buffer.alloc(1000));
      const answer = await connection.response();
      assert.equal(answer.status, 204);
      assert.equal(header(answer, "connection"), "close");
    });
  });

  describe(`${runtime.name}: what is not HTTP/1.1`, { concurrency: 1 }, () => {
    const cases: Array<[string, string, number]> = [
      ["a bare LF", "GET / HTTP/1.1\nhost: a\r\n\r\n", 400],
      ["HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 400],
      ["a folded header", "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400],
      ["a space before the colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400],
      ["two lengths", "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400],
      ["a signed length", "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nx", 400],
      [
        "a length and chunks",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
      ],
      ["an unknown coding", "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400],
      ["a head of 70 KiB", `GET / HTTP/1.1\r\na: ${"x".repeat(70 * 1024)}\r\n\r\n`, 431],
      ["a head without end", `GET / HTTP/1.1\r\n${"a: b\r\n".repeat(12_000)}`, 431],
    ];
    for (const [name, bytes, status] of cases) {
      it(`refuses ${name}`, async () => {
        const instance = await plain();
        const connection = await instance.connect();
        connection.socket.write(bytes, "latin1");
        assert.equal((await connection.response()).status, status);
        assert.equal((await instance.request({ target: "/none" })).status, 204, "it goes on serving others");
      });
    }

    it("refuses a malformed chunk under the handler's hands", async () => {
      const instance = await plain();
      const connection = await instance.connect();
      connection.socket.write(connection.head({ method: "POST", target: "/echo" }, "transfer-encoding: chunked\r\n"));
      connection.socket.write("zz\r\nabc\r\n0\r\n\r\n");
      await connection.until(() => connection.ended || connection.received.length > 0);
      assert.equal((await instance.request({ target: "/none" })).status, 204, "it goes on serving others");
    });
  });
}
