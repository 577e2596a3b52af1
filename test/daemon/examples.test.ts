// Deploys every example as a user would, and uses it.

import assert from "node:assert/strict";
import { once, type EventEmitter } from "node:events";
import { cpSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { installation } from "#config.ts";
import { eventually, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";

let daemon: Daemon;

before(async () => {
  daemon = await startDaemon();
  for (const example of ["hello", "rest-api", "python-text", "streaming"]) {
    const result = await daemon.ebb(["deploy", join(installation, "examples", example)]);
    assert.equal(result.code, 0, `${example}: ${result.stderr}${result.stdout}${daemon.log()}`);
  }
});

after(async () => {
  await daemon?.stop();
  if (daemon) removeDirectory(daemon.directory);
});

test("hello greets by name, and its answer says which invocation it was and how long it took", async () => {
  const answer = await daemon.fetch("hello.localhost", "/?name=Ada");
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.text, "Hello, Ada!\n");
  assert.match(String(answer.headers["ebb-invocation-id"]), /^[0-9a-z]{26}$/);
  assert.match(String(answer.headers["server-timing"]), /queue;dur=[\d.]+.*start;dur=[\d.]+.*exec;dur=[\d.]+/);
});

test("hello answers by path too, stripped of its prefix", async () => {
  const answer = await daemon.fetch(null, "/run/default/hello/?name=path");
  assert.equal(answer.text, "Hello, path!\n");
});

test("rest-api routes and calls its two private functions without a token", async () => {
  const user = await daemon.fetch("api.localhost", "/users/1");
  // `api` is reserved in the default project: the example has a name of its own.
  assert.notEqual(user.status, 200);
  const answer = await daemon.fetch("rest.localhost", "/users/1");
  assert.equal(answer.status, 200, answer.text);
  const body = JSON.parse(answer.text) as { id: number; name: string; quote: string };
  assert.equal(body.name, "Ada");
  assert.ok(body.quote.length > 10);
  const created = await daemon.fetch("rest.localhost", "/users", { method: "POST", body: '{"name":"Edsger"}' });
  assert.equal(created.status, 201, created.text);
  assert.equal((await daemon.fetch("rest.localhost", "/users/9")).status, 404);
});

test("a private function of rest-api refuses a caller without a token and serves one with it", async () => {
  assert.equal((await daemon.fetch("users.localhost", "/")).status, 401);
  const { token } = await daemon.json<{ token: string }>(["token"]);
  const answer = await daemon.fetch("users.localhost", "/", { headers: { "ebb-token": token } });
  assert.equal(answer.status, 200, answer.text);
  assert.equal((JSON.parse(answer.text) as unknown[]).length, 2);
});

test("python-text counts words", async () => {
  const answer = await daemon.fetch("text.localhost", "/", {
    method: "POST",
    body: "one two two",
    headers: { "content-type": "text/plain" },
  });
  assert.deepEqual(JSON.parse(answer.text), {
    words: 3,
    most: [
      ["two", 2],
      ["one", 1],
    ],
  });
});

test("streaming sends events as they happen, and notices that the client left", async () => {
  const answer = await daemon.fetch("clock.localhost", "/?count=3&everyMs=10");
  assert.equal(answer.headers["content-type"], "text/event-stream");
  assert.equal((answer.text.match(/event: tick/g) ?? []).length, 3);

  const leaving = new AbortController();
  const aborted = daemon.fetch("clock.localhost", "/?count=60&everyMs=50", { signal: leaving.signal });
  await eventually("the stream is running", async () =>
    (await daemon.client.workloads.list("default")).find((row) => row.name === "clock" && row.instances === 1),
  );
  leaving.abort();
  await assert.rejects(aborted);
  await eventually("the function said that the client left", async () => {
    const lines = await daemon.ebb(["logs", "clock", "--json"]);
    return lines.stdout.includes("the client left after");
  });
});

interface ChatSocket extends EventEmitter {
  send(text: string): void;
  close(): void;
}
type ChatSocketClass = new (url: string, options: { headers: Record<string, string> }) => ChatSocket;

class Talker {
  readonly heard: string[] = [];
  readonly #socket: ChatSocket;

  constructor(room: string, name: string) {
    const { WebSocket } = createRequire(import.meta.url)("ws") as { WebSocket: ChatSocketClass };
    const url = `ws://127.0.0.1:${daemon.port}/${room}?name=${name}`;
    this.#socket = new WebSocket(url, { headers: { host: "chat.localhost" } });
    this.#socket.on("message", (data: Buffer) => void this.heard.push(data.toString()));
  }

  hears(text: string): Promise<unknown> {
    return eventually(`hears "${text}"`, async () => this.heard.includes(text));
  }
  say(text: string): void {
    this.#socket.send(text);
  }
  async leave(): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

test("websocket-chat keeps its rooms apart, counts each connection as an invocation, and is gone with the last of them", async () => {
  const folder = temporaryDirectory();
  cpSync(join(installation, "examples/websocket-chat"), folder, { recursive: true });
  // What npm install would fetch: the version that is pinned here is the example's.
  const wanted = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { dependencies: { ws: string } };
  const from = join(installation, "node_modules/ws");
  const { version } = JSON.parse(readFileSync(join(from, "package.json"), "utf8")) as { version: string };
  assert.equal(wanted.dependencies.ws, version);
  cpSync(from, join(folder, "node_modules/ws"), { recursive: true });
  const deployed = await daemon.ebb(["deploy", folder]);
  removeDirectory(folder);
  assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
  const chat = async () => (await daemon.client.workloads.list("default")).find(({ name }) => name === "chat")!;
  for (const greeting of ["hello", "hello again"]) {
    const ada = new Talker("red", "ada");
    await ada.hears("* ada is here, with 0 others");
    const grace = new Talker("red", "grace");
    await ada.hears("* grace is here, with 1 others");
    const edsger = new Talker("blue", "edsger");
    await edsger.hears("* edsger is here, with 0 others");
    ada.say(greeting);
    await Promise.all([ada.hears(`ada: ${greeting}`), grace.hears(`ada: ${greeting}`)]);
    edsger.say("alone");
    await edsger.hears("edsger: alone");
    assert.equal((await chat()).instances, 1);
    await ada.leave();
    await grace.hears("* ada has left");
    assert.deepEqual(
      [...ada.heard, ...grace.heard].filter((line) => line.includes("edsger")),
      [],
    );
    assert.deepEqual(edsger.heard, ["* edsger is here, with 0 others", "edsger: alone"]);
    await Promise.all([grace.leave(), edsger.leave()]);
    await eventually("it is gone", async () => (await chat()).instances === 0);
  }
  const records = await daemon.client.workloads.invocations("default", "chat");
  assert.deepEqual([records.length, new Set(records.map(({ status }) => status))], [6, new Set([101])]);
  const lines = await daemon.ebb(["logs", "chat", "--json"]);
  const joined = lines.stdout.split("\n").filter((line) => line.includes("edsger joins /blue"));
  assert.equal(joined.length, 2);
  for (const line of joined)
    assert.ok(
      records.some(({ id }) => id === (JSON.parse(line) as { invocation: string }).invocation),
      line,
    );
});
