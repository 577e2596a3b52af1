// Calls that run side by side in one instance, of every kind of answer, with callers that leave and an instance that now and then
// dies: nobody gets what is another's, nothing is cut short unseen, and nothing is left over. EBB_SECONDS: how long (15); EBB_SEED.

import assert from "node:assert/strict";
import { once } from "node:events";
import { request as send } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../simulation/chance.ts";
import { type Daemon, endDeployed, eventually, folderOf, startDeployed } from "./fixture.ts";

const seconds = Number(process.env["EBB_SECONDS"] ?? 15);
const seed = Number(process.env["EBB_SEED"] ?? Date.now() % 1_000_000);
const chance = seeded(seed);
const callers = 60;

const code = folderOf({
  "ebb.yaml":
    "functions:\n  many: { source: ./many, public: true, memoryMb: 256, concurrency: 100, max: 2, idleSeconds: 2 }\n",
  "many/index.mjs": `import { setTimeout as wait } from "node:timers/promises";
const body = (name, length) => (name + " ").repeat(Math.ceil(length / (name.length + 1))).slice(0, length);
export default async (request) => {
  const { pathname, searchParams } = new URL(request.url);
  const [length, ms] = ["length", "ms"].map((key) => searchParams.get(key));
  const name = request.method === "POST" ? (await request.json()).name : searchParams.get("name");
  if (Number(ms) > 0) await wait(Number(ms));
  const text = body(name, Number(length));
  if (pathname === "/whole") return new Response(text);
  if (pathname === "/bytes") return new Response(Buffer.from(text));
  if (pathname === "/fails") throw new Error(name);
  if (pathname === "/dies") process.exit(3);
  let at = 0;
  return new Response(new ReadableStream({ async pull(out) {
    if (Number(ms) > 0) await wait(1);
    if (at >= text.length) return out.close();
    out.enqueue(Buffer.from(text.slice(at, at += 5000)));
  } }));
};`,
});

let daemon: Daemon;

before(async () => {
  daemon = await startDeployed(code);
});
after(() => endDeployed(daemon, code));

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly whole: boolean;
}

/** `body`: null, a GET. null: it was left before its end. */
async function ask(path: string, body: string | null, leaveAfterMs: number | null): Promise<Answer | null> {
  const method = body === null ? "GET" : "POST";
  const length = body === null ? {} : { "content-length": Buffer.byteLength(body) };
  const headers = { host: "many.localhost", ...length };
  const request = send({ port: daemon.port, host: "127.0.0.1", method, path, headers, agent: false });
  request.end(body ?? undefined);
  const leave = leaveAfterMs === null ? undefined : setTimeout(() => request.destroy(), leaveAfterMs);
  try {
    const [response] = await once(request, "response");
    let text = "";
    for await (const chunk of response.setEncoding("latin1")) text += chunk;
    return { status: response.statusCode, text, whole: response.complete };
  } catch (error) {
    if (leaveAfterMs !== null && request.destroyed) return null;
    return { status: 0, text: String(error), whole: false };
  } finally {
    clearTimeout(leave);
  }
}

test(`calls side by side get their own answers, whole (seed ${seed})`, async (t) => {
  const until = performance.now() + seconds * 1_000;
  const seen: Record<string, number> = {};
  let asked = 0;
  let deathMs = -Infinity;
  const caller = async (): Promise<void> => {
    while (performance.now() < until) {
      const name = `n${++asked}`;
      const kinds = ["whole", "whole", "whole", "bytes", "pieces", "fails"];
      const kind = asked % 5_000 === 0 ? "dies" : kinds[Math.floor(chance() * kinds.length)]!;
      const length = Math.floor(chance() < 0.1 ? 300_000 * chance() : 2_000 * chance());
      const ms = chance() < 0.3 ? Math.ceil(chance() * 20) : 0;
      if (kind === "dies") deathMs = performance.now();
      const beganMs = performance.now();
      const answer = await ask(
        `/${kind}?name=${name}&length=${length}&ms=${ms}`,
        // Some too long for a frame.
        chance() < 0.5 ? JSON.stringify({ name, more: "x".repeat(chance() < 0.1 ? 30_000 : 300 * chance()) }) : null,
        chance() < 0.1 ? chance() * 20 : null,
      );
      const outcome = answer === null ? "left" : String(answer.status);
      seen[`${kind} ${outcome}`] = (seen[`${kind} ${outcome}`] ?? 0) + 1;
      if (answer === null || kind === "dies") continue;
      if (kind === "fails" && answer.status === 500) {
        assert.equal((JSON.parse(answer.text) as { detail: string }).detail, name);
        continue;
      }
      if (answer.status === 200 && answer.whole) {
        const expected = `${name} `.repeat(Math.ceil(length / (name.length + 1))).slice(0, length);
        assert.ok(
          answer.text === expected,
          `${kind} ${name}: ${answer.text.length} of ${length}: ${answer.text.slice(0, 80)}`,
        );
        continue;
      }
      // Only a death may take an answer, of those that were there then.
      assert.ok(beganMs < deathMs + 2_000, `${kind} ${name}: ${answer.status} ${answer.text.slice(0, 200)}`);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  t.diagnostic(`${asked} calls: ${JSON.stringify(seen)}`);
  assert.ok((seen["whole 200"] ?? 0) > 100 && (seen["pieces 200"] ?? 0) > 20);
  await sleep(100);
  assert.equal(daemon.process.exitCode, null, daemon.log());
  await eventually("back to zero: nothing is thought to run", async () => {
    const headers = { authorization: `Bearer ${daemon.token}` };
    const { text } = await daemon.fetch(null, "/api/v1/status", { headers });
    const { instances } = JSON.parse(text) as { instances: { running: number; starting: number } };
    return instances.running + instances.starting === 0;
  });
});
