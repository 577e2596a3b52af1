// The connection that many invocations share (CONTRACT.md, 10): frames in and out, answers that move, callers that go, and nonsense.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { after, describe } from "node:test";
import { header, requestHead, type ClientConnection, type ClientRequest } from "./client.ts";
import { newId, type Instance } from "./instance.ts";
import { codeOf, itOf, serving, shared, type Runtime } from "./support.ts";

const code = {
  "index.mjs": `
    import { setTimeout as wait } from "node:timers/promises";
    const held = new Map();
    const big = "x".repeat(300_000);
    export default async (request, env, ctx) => {
      const { pathname } = new URL(request.url);
      const name = pathname.split("/")[2] ?? "";
      if (pathname.startsWith("/echo/")) return new Response("echo " + name);
      if (pathname.startsWith("/hold/")) {
        const left = new Promise((resolve) => request.signal.addEventListener("abort", () => resolve("left")));
        const how = await Promise.race([new Promise((resolve) => held.set(name, resolve)), left]);
        return new Response(how + " " + name);
      }
      if (pathname.startsWith("/holding/")) return new Response(String(held.has(name)));
      if (pathname.startsWith("/let-go/")) return held.get(name)("let go"), new Response(null, { status: 204 });
      if (pathname.startsWith("/busy/")) {
        for (const until = performance.now() + Number(name); performance.now() < until;);
        return new Response(name);
      }
      if (pathname === "/body") return new Response(await request.arrayBuffer());
      if (pathname === "/chunks") {
        const chunks = [];
        for await (const chunk of request.body) chunks.push(chunk);
        return new Response(Buffer.concat(chunks));
      }
      if (pathname === "/words") return new Response("größer ⚡");
      if (pathname === "/bytes") return new Response(Uint8Array.from({ length: 256 }, (_, i) => i));
      if (pathname === "/big") return new Response(big);
      if (pathname === "/throws") throw new Error("oh no");
      if (pathname === "/after") return ctx.waitUntil(wait(20)), new Response("before");
      const part = new Uint8Array(65_536).fill(7);
      const parts = Number(name);
      let sent = 0;
      if (pathname.startsWith("/pieces/"))
        return new Response(new ReadableStream({ pull: (out) => (sent++ < parts ? out.enqueue(part) : out.close()), cancel: () => held.set("cancelled", () => {}) }));
      if (pathname.startsWith("/breaks/"))
        return new Response(new ReadableStream({ pull: (out) => (sent++ < parts ? out.enqueue(part) : out.error(new Error("half-way"))) }));
      return new Response("?", { status: 404 });
    };`,
};

interface Frame {
  readonly number: number;
  readonly bytes: Buffer;
  readonly text: string;
  readonly status: number;
}

/** What ebb is to a shared connection. */
class Frames {
  readonly socket: net.Socket;
  readonly #came: Frame[] = [];
  readonly #waiting: (() => void)[] = [];
  #bytes = Buffer.alloc(0);
  #open = false;
  ended = false;

  constructor(instance: Instance) {
    this.socket = net.connect(instance.launched.socketPath);
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.ended = true;
      this.#wake();
    });
    this.socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#read();
      this.#wake();
    });
    this.socket.write(
      "GET /ebb/v1/shared HTTP/1.1\r\nhost: runtime\r\nconnection: upgrade\r\nupgrade: ebb-frames\r\n\r\n",
    );
  }

  #read(): void {
    if (!this.#open) {
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      assert.match(this.#bytes.toString("latin1", 0, end), /^HTTP\/1\.1 101 /);
      this.#bytes = this.#bytes.subarray(end + 4);
      this.#open = true;
    }
    while (this.#bytes.length >= 8 && this.#bytes.length >= 8 + this.#bytes.readUInt32LE(0)) {
      const end = 8 + this.#bytes.readUInt32LE(0);
      const bytes = this.#bytes.subarray(8, end);
      const text = bytes.subarray(bytes.indexOf("\r\n\r\n") + 4).toString();
      const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(bytes.toString("latin1"))?.[1] ?? 0);
      this.#came.push({ number: this.#bytes.readUInt32LE(4), bytes, text, status });
      this.#bytes = this.#bytes.subarray(end);
    }
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** The next frame of this number; null: the connection has ended. */
  async frame(number: number): Promise<Frame | null> {
    for (;;) {
      const at = this.#came.findIndex((frame) => frame.number === number);
      if (at >= 0) return this.#came.splice(at, 1)[0]!;
      if (this.ended) return null;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  static of(number: number, payload: string | Uint8Array): Buffer {
    const bytes = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
    const head = Buffer.alloc(8);
    head.writeUInt32LE(bytes.length, 0);
    head.writeUInt32LE(number, 4);
    return Buffer.concat([head, bytes]);
  }

  static request(number: number, target: string, more: ClientRequest = {}): Buffer {
    const body = Buffer.from((more.body ?? "") as Uint8Array);
    const head = requestHead({ target, ...more }, more.body === undefined ? "" : `content-length: ${body.length}\r\n`);
    return Frames.of(number, Buffer.concat([Buffer.from(head, "latin1"), body]));
  }

  send(number: number, target: string, more: ClientRequest = {}): void {
    this.socket.write(Frames.request(number, target, more));
  }

  drop(number: number): void {
    this.socket.write(Frames.of(number, ""));
  }

  async answer(number: number, target: string, more: ClientRequest = {}): Promise<Frame> {
    this.send(number, target, more);
    const frame = await this.frame(number);
    assert.ok(frame, "the connection ended");
    return frame;
  }
}

export function sharedConnectionSuite(runtime: Runtime): void {
  const it = itOf(runtime);

  describe(`${runtime.name}: a shared connection`, { concurrency: 1 }, () => {
    const instanceOf = shared(runtime, codeOf({ after }, code), { concurrency: 100 });
    const opened = async (t: { after(end: () => void): void }): Promise<Frames> => {
      const frames = new Frames(await instanceOf());
      t.after(() => frames.socket.destroy());
      return frames;
    };
    /** An answer that has begun, by a connection of its own. */
    const moved = async (t: { after(end: () => void): void }, id: string): Promise<ClientConnection> => {
      const connection = await (await instanceOf()).connect();
      t.after(() => connection.close());
      connection.socket.write(`GET /ebb/v1/answers/${id} HTTP/1.1\r\nhost: runtime\r\n\r\n`);
      return connection;
    };

    it("is there where invocations run side by side and the shim writes the answers", async (t) => {
      assert.equal((await instanceOf()).ready.shares, true);
      const one = await serving(t, runtime, codeOf(t, code));
      assert.equal(one.ready.shares, false);
    });

    it("brings each answer under its number, in whichever order they come", async (t) => {
      const frames = await opened(t);
      frames.send(7, "/hold/a");
      assert.equal((await frames.answer(0, "/echo/b")).text, "echo b");
      assert.equal((await frames.answer(3, "/let-go/a")).status, 204);
      assert.equal((await frames.frame(7))?.text, "let go a");
      assert.equal((await frames.answer(7, "/echo/again")).text, "echo again");
    });

    it("takes frames in whatever pieces they come", async (t) => {
      const frames = await opened(t);
      const bytes = Buffer.concat([0, 1, 2].map((number) => Frames.request(number, `/echo/${number}`)));
      for (let step = 1; step <= bytes.length; step += 97) {
        for (let at = 0; at < bytes.length; at += step) {
          frames.socket.write(bytes.subarray(at, at + step));
          await new Promise((resolve) => setImmediate(resolve));
        }
        for (const number of [0, 1, 2]) assert.equal((await frames.frame(number))?.text, `echo ${number}`);
      }
    });

    it("carries text, bytes, no body, and the heads of HEAD", async (t) => {
      const frames = await opened(t);
      assert.equal((await frames.answer(0, "/words")).text, "größer ⚡");
      const { bytes } = await frames.answer(0, "/bytes");
      assert.deepEqual([...bytes.subarray(-256)], [...Array(256).keys()]);
      const head = await frames.answer(0, "/echo/abc", { method: "HEAD" });
      assert.match(head.bytes.toString(), /content-length: 8\r\n(?:.+\r\n)*\r\n$/);
    });

    it("brings a body with its head", async (t) => {
      const frames = await opened(t);
      const body = Buffer.concat([Buffer.from("a\r\n\r\nb"), Buffer.from([...Array(256).keys()])]);
      for (const target of ["/body", "/chunks"]) {
        const { bytes } = await frames.answer(0, target, { body });
        assert.deepEqual(bytes.subarray(-body.length), body);
      }
      assert.equal((await frames.answer(0, "/body", { body: Buffer.alloc(0) })).text, "");
      const together = ["one", "two", "three"];
      frames.socket.write(
        Buffer.concat(together.map((text, number) => Frames.request(number, "/body", { body: Buffer.from(text) }))),
      );
      for (const [number, text] of together.entries()) assert.equal((await frames.frame(number))?.text, text);
      // Nobody reads it.
      assert.equal((await frames.answer(0, "/echo/a", { body })).text, "echo a");
    });

    it("answers one that is done before it begins the next that came with it, where they take long", async (t) => {
      const frames = await opened(t);
      const order: number[] = [];
      const asked = [0, 1, 2, 3].map((number) => Frames.request(number, "/busy/20"));
      frames.socket.write(Buffer.concat(asked));
      const sentMs = performance.now();
      const tookMs = await Promise.all(
        [0, 1, 2, 3].map(async (number) => {
          await frames.frame(number);
          order.push(number);
          return performance.now() - sentMs;
        }),
      );
      assert.deepEqual(order, [0, 1, 2, 3]);
      assert.ok(tookMs[0]! < tookMs[3]! - 35, `the first after ${tookMs[0]} ms, the last after ${tookMs[3]} ms`);
    });

    it("copies what a handler may use again, and keeps what others have answered when one ends the process", async (t) => {
      const files = {
        "index.mjs": `const one = Buffer.alloc(3);
          export const handle = (event) => {
            if (event.rawPath === "/exit") process.exit(0);
            one.write(event.rawPath.slice(1));
            return one;
          };`,
      };
      const instance = await serving(t, runtime, codeOf(t, files), { concurrency: 100 });
      const frames = new Frames(instance);
      t.after(() => frames.socket.destroy());
      await frames.answer(0, "/abc");
      const paths = ["/one", "/two", "/thr"];
      frames.socket.write(Buffer.concat(paths.map((path, number) => Frames.request(number, path))));
      for (const [number, path] of paths.entries()) assert.equal((await frames.frame(number))?.text, path.slice(1));
      frames.socket.write(Buffer.concat([Frames.request(0, "/one"), Frames.request(1, "/exit")]));
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
      assert.equal((await frames.frame(0))?.text, "one");
    });

    it("leaves in the socket what it has no time for, and reads on", async (t) => {
      const frames = await opened(t);
      const body = Buffer.alloc(30_000, "x");
      const numbers = Array.from({ length: 200 }, (_, number) => number);
      frames.socket.write(Buffer.concat(numbers.map((number) => Frames.request(number, "/busy/2", { body }))));
      for (const number of numbers) assert.equal((await frames.frame(number))?.text, "2");
    });

    it("keeps no body with a header that a handler keeps", async (t) => {
      const files = {
        "index.mjs": `const { setFlagsFromString } = process.getBuiltinModule("node:v8"), kept = [];
          setFlagsFromString("--expose-gc");
          const gc = process.getBuiltinModule("node:vm").runInNewContext("gc");
          export const handle = (event) => {
            kept.push(event.headers["x-client"]);
            return event.httpMethod === "POST" ? "" : String((gc(), process.memoryUsage().heapUsed));
          };`,
      };
      const instance = await serving(t, runtime, codeOf(t, files), { concurrency: 100 });
      const frames = new Frames(instance);
      t.after(() => frames.socket.destroy());
      const heapBytes = async (): Promise<number> => Number((await frames.answer(0, "/")).text);
      const beforeBytes = await heapBytes();
      const body = Buffer.alloc(16_000, "x");
      for (let call = 0; call < 500; call++)
        await frames.answer(0, "/", { body, headers: [["x-client", `client-number-${10_000 + call}`]] });
      const grownBytes = (await heapBytes()) - beforeBytes;
      assert.ok(grownBytes < 4_000_000, `${grownBytes} bytes`);
    });

    it("says with the answer that it is done, or later, and what failed", async (t) => {
      const frames = await opened(t);
      assert.match((await frames.answer(0, "/echo/a")).bytes.toString(), /\r\nebb-done: 1\r\n/);
      const id = newId();
      assert.doesNotMatch((await frames.answer(0, "/after", { id })).bytes.toString(), /ebb-done/);
      await (await instanceOf()).done(id);
      const failed = await frames.answer(0, "/throws");
      assert.deepEqual([failed.status, (JSON.parse(failed.text) as { detail: string }).detail], [500, "oh no"]);
    });

    it("answers with an empty frame what comes in pieces, and brings it, back-pressure and all, by the connection that asks for it", async (t) => {
      const frames = await opened(t);
      const id = newId();
      assert.equal((await frames.answer(0, "/pieces/200", { id })).bytes.length, 0);
      assert.equal((await frames.answer(0, "/echo/meanwhile")).text, "echo meanwhile");
      const connection = await moved(t, id);
      const answer = await connection.response();
      assert.deepEqual([answer.status, answer.body.length, answer.cut], [200, 200 * 65_536, false]);
      await (await instanceOf()).done(id);
      assert.equal((await connection.request({ target: "/echo/next" })).text, "echo next", "the connection stays");
    });

    it("moves what is long too, with its word that it is done", async (t) => {
      const frames = await opened(t);
      const id = newId();
      assert.equal((await frames.answer(0, "/big", { id })).bytes.length, 0);
      const answer = await (await moved(t, id)).response();
      assert.equal(createHash("sha256").update(answer.body).digest("hex"), sha256("x".repeat(300_000)));
      assert.equal(header(answer, "ebb-done"), "1");
    });

    it("cuts off an answer that breaks half-way", async (t) => {
      const frames = await opened(t);
      const id = newId();
      assert.equal((await frames.answer(0, "/breaks/3", { id })).bytes.length, 0);
      const connection = await moved(t, id);
      await connection.until(() => connection.ended);
      assert.ok(!connection.received.includes("\r\n0\r\n\r\n"));
      await (await instanceOf()).done(id);
    });

    it("tells the function that its caller has gone, and gives the number back with an empty frame", async (t) => {
      const frames = await opened(t);
      const id = newId();
      frames.send(4, "/hold/gone", { id });
      await until(async () => (await frames.answer(0, "/holding/gone")).text === "true");
      frames.drop(4);
      assert.equal((await frames.frame(4))?.bytes.length, 0);
      await (await instanceOf()).done(id);
      const moving = newId();
      assert.equal((await frames.answer(4, "/pieces/5", { id: moving })).bytes.length, 0);
      frames.drop(4);
      await (await instanceOf()).done(moving);
      assert.equal((await frames.answer(4, "/echo/a")).text, "echo a");
    });

    it("repeats the word that went out with an answer which nobody wanted any more", async (t) => {
      const frames = await opened(t);
      const id = newId();
      await frames.answer(2, "/echo/a", { id });
      frames.drop(2);
      await (await instanceOf()).done(id);
    });

    it("takes its end for that of all who wait", async (t) => {
      const frames = await opened(t);
      const ids = [newId(), newId()];
      for (const [number, id] of ids.entries()) frames.send(number, `/hold/end${number}`, { id });
      await until(async () => (await frames.answer(9, "/holding/end1")).text === "true");
      frames.socket.destroy();
      for (const id of ids) await (await instanceOf()).done(id);
    });

    it("refuses what is no request by its frame, and goes on with the others", async (t) => {
      const frames = await opened(t);
      frames.send(9, "/hold/others");
      for (const text of [
        "GET / HTTP/1.1\r\nhost\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nhost: a\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        `GET / HTTP/1.1\r\n${"a: b\r\n".repeat(300)}\r\n`,
      ]) {
        frames.socket.write(Frames.of(2, text));
        assert.equal((await frames.frame(2))?.status, 400, text);
      }
      await until(async () => (await frames.answer(0, "/holding/others")).text === "true");
      await frames.answer(0, "/let-go/others");
      assert.equal((await frames.frame(9))?.text, "let go others");
    });

    const nonsense: Record<string, () => Buffer> = {
      "a frame that is too long": () => Frames.of(0, Buffer.alloc(70_000, "x")),
      "a number that is too high": () => Frames.request(70_000, "/echo/a"),
      "a number that is taken": () => Buffer.concat([0, 0].map((number) => Frames.request(number, "/hold/taken"))),
    };
    for (const [what, bytes] of Object.entries(nonsense))
      it(`ends at ${what}, and the instance lives on`, async (t) => {
        const frames = await opened(t);
        frames.socket.write(bytes());
        assert.equal(await frames.frame(1), null);
        assert.equal((await (await instanceOf()).request({ target: "/echo/on" })).text, "echo on");
      });

    it("lets V8 keep in its nursery what many calls allocate, once there have been many", async (t) => {
      const files = {
        "index.mjs": `const v8 = process.getBuiltinModule("node:v8"), said = [], { setFlagsFromString } = v8;
          v8.setFlagsFromString = (flag) => (said.push(flag), setFlagsFromString(flag));
          export default () => Response.json(said);`,
      };
      const instance = await serving(t, runtime, codeOf(t, files), { concurrency: 100 });
      const frames = new Frames(instance);
      t.after(() => frames.socket.destroy());
      for (let call = 0; call < 499; call++) assert.equal((await frames.answer(0, "/")).text, "[]");
      await frames.answer(0, "/");
      assert.equal((await frames.answer(0, "/")).text, '["--no-allocation-site-pretenuring"]');
    });

    it("has nothing for who asks for an answer that is not there", async (t) => {
      const connection = await moved(t, newId());
      await connection.until(() => connection.ended);
      assert.equal(connection.received.length, 0);
    });

    it("answers what runs at SIGTERM, and closes", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, code), { concurrency: 100 });
      const frames = new Frames(instance);
      t.after(() => frames.socket.destroy());
      frames.send(0, "/hold/last");
      await until(async () => (await frames.answer(1, "/holding/last")).text === "true");
      instance.launched.signal("SIGTERM");
      frames.send(1, "/let-go/last");
      assert.equal((await frames.frame(0))?.text, "let go last");
      assert.deepEqual(await instance.launched.exited, { code: 0, signal: null });
      if (!frames.ended) await once(frames.socket, "close");
    });
  });
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}
