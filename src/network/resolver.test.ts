// The resolver and its upstream: caching, joining, bounds per sandbox, retries, and what a wrong answer does (nothing).

import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket as Stream } from "node:net";
import { test, type TestContext } from "node:test";
import packet from "dns-packet";
import { VirtualClock, settle } from "#lib/virtual-clock.ts";
import { systemClock } from "#model/clock.ts";
import { resolverLimits } from "#model/limits.ts";
import type { Question, Rules } from "./decide.ts";
import { Resolver } from "./resolver.ts";
import { createUpstream, FrameReader, framed, type AskUpstream, type Fetched } from "./upstream.ts";

const internet: Rules = { egress: "internet", gateway: "127.0.0.1", permits: [], hostDomains: [] };

function resolverOf(
  ask: AskUpstream,
  clock = new VirtualClock(),
  projectAt: (source: string) => string | null = (source) => /^198\.18\.(\d+)\./.exec(source)?.[1] ?? null,
): { resolver: Resolver; defects: unknown[] } {
  const defects: unknown[] = [];
  const resolver = new Resolver({
    address: "127.0.0.1",
    preferredPort: 0,
    rulesOf: (source) => (source.startsWith("198.18.") || source === "127.0.0.1" ? internet : null),
    opened: async () => {},
    withheld: () => {},
    projectAt,
    ask,
    clock,
    defect: (error) => defects.push(error),
  });
  return { resolver, defects };
}

/** Asks a resolver that never answers; `asked`: what it is being asked now, and how it would answer after all. */
function silent(projectAt?: () => null): {
  resolver: Resolver;
  asked: Map<string, (fetched: Fetched | null) => void>;
} {
  const asked = new Map<string, (fetched: Fetched | null) => void>();
  const ask: AskUpstream = ({ name }, givenUp) =>
    new Promise((resolve) => {
      const end = (fetched: Fetched | null): void => {
        asked.delete(name);
        resolve(fetched);
      };
      assert.ok(!asked.has(name), `${name} is asked once`);
      asked.set(name, end);
      givenUp.addEventListener("abort", () => end(null));
    });
  return { resolver: resolverOf(ask, new VirtualClock(), projectAt).resolver, asked };
}

let names = 0;
/** So many questions of one sandbox, each for a name of its own. */
function flooded(resolver: Resolver, source: string, count: number): Promise<packet.DecodedPacket>[] {
  return Array.from({ length: count }, () => told(resolver, `flood${names++}.example`, source));
}

function queryBytes(name: string, id = 1): Buffer {
  return packet.encode({ type: "query", id, questions: [{ type: "A", name }] });
}

function fetchedOf(question: Question, address = "20.0.0.1", ttlSeconds = 30): Fetched {
  const records = [{ name: question.name, type: "A", ttlSeconds, data: address }];
  return { answer: { rcode: "NOERROR", truncated: false, records, authority: [] }, bytes: 60 };
}

async function told(resolver: Resolver, name: string, source = "198.18.0.3"): Promise<packet.DecodedPacket> {
  const bytes = await resolver.answer(queryBytes(name), source, () => 512);
  assert.ok(bytes);
  return packet.decode(bytes);
}

function ttl(reply: packet.DecodedPacket): unknown {
  const answer = reply.answers?.[0];
  return answer && "ttl" in answer ? answer.ttl : null;
}

const rcodeOf = (reply: packet.DecodedPacket): number => (reply.flags ?? 0) & 15;

void test("an answer is kept for its time to live, and its age is told", async () => {
  const clock = new VirtualClock();
  let asked = 0;
  const { resolver } = resolverOf((question) => (asked++, Promise.resolve(fetchedOf(question))), clock);
  assert.equal(ttl(await told(resolver, "x.example")), 30);
  await clock.advance(10_000);
  assert.equal(ttl(await told(resolver, "X.Example")), 20);
  assert.equal(asked, 1);
  await clock.advance(20_000);
  assert.equal(ttl(await told(resolver, "x.example")), 30);
  assert.equal(asked, 2);
});

void test("the same question of many is asked once", async () => {
  const waiting: Array<(fetched: Fetched) => void> = [];
  const { resolver } = resolverOf(() => new Promise((resolve) => waiting.push(resolve)));
  const answers = Array.from({ length: 20 }, (_, i) => told(resolver, "x.example", `198.18.0.${i + 3}`));
  await settle();
  assert.equal(waiting.length, 1);
  waiting[0]?.(fetchedOf({ name: "x.example", type: "A" }));
  for (const answer of await Promise.all(answers)) assert.equal(answer.answers?.length, 1);
  assert.equal(resolver.waiting, 0);
});

void test("one sandbox that floods uses up its own share only, and all of a project's together what nobody else wants", async () => {
  const { resolver, asked } = silent();
  const flood = flooded(resolver, "198.18.1.3", 500);
  await settle();
  assert.equal(asked.size, resolverLimits.waitingPerSource);
  flood.push(...Array.from({ length: 30 }, (_, i) => flooded(resolver, `198.18.1.${i + 4}`, 60)).flat());
  await settle();
  assert.equal(asked.size, resolverLimits.waiting);
  assert.equal(resolver.waiting, resolverLimits.waiting);
  for (const answer of asked.values()) answer(null);
  for (const answer of await Promise.all(flood)) assert.equal(rcodeOf(answer), 2);
  assert.equal(resolver.waiting, 0);
});

void test("a project whose sandboxes all ask silent names leaves the others room: its oldest questions give way, and are given up", async () => {
  const { resolver, asked } = silent();
  const flood = Array.from({ length: 30 }, (_, i) => flooded(resolver, `198.18.1.${i + 3}`, 64)).flat();
  await settle();
  const full = asked.size;
  const answers = Array.from({ length: 10 }, (_, i) => told(resolver, `n${i}.example`, "198.18.2.3"));
  await settle();
  assert.equal(asked.size, full, "as many were given up");
  for (let i = 0; i < 10; i++) asked.get(`n${i}.example`)!(fetchedOf({ name: `n${i}.example`, type: "A" }));
  for (const answer of await Promise.all(answers)) assert.equal(answer.answers?.length, 1);
  for (const first of await Promise.all(flood.slice(0, 10))) assert.equal(rcodeOf(first), 2);
  for (const answer of asked.values()) answer(null);
  await Promise.all(flood);
  assert.equal(resolver.waiting, 0);
});

void test("a question that gave way for one who asked it is still asked for the others", async () => {
  const { resolver, asked } = silent();
  const flood = [told(resolver, "x.example", "198.18.1.3"), ...flooded(resolver, "198.18.1.3", 63)];
  const shared = told(resolver, "x.example", "198.18.3.3");
  flood.push(...Array.from({ length: 30 }, (_, i) => flooded(resolver, `198.18.1.${i + 4}`, 64)).flat());
  await settle();
  const other = told(resolver, "n.example", "198.18.2.3");
  assert.equal(rcodeOf(await flood[0]!), 2, "it was the oldest of those who have most");
  asked.get("x.example")!(fetchedOf({ name: "x.example", type: "A" }));
  assert.equal((await shared).answers?.length, 1);
  for (const answer of asked.values()) answer(null);
  await Promise.all([other, ...flood]);
});

void test("links that are nobody's, as while their instance ends, share like one project", async () => {
  const { resolver, asked } = silent(() => null);
  const flood = Array.from({ length: 30 }, (_, i) => flooded(resolver, `198.18.1.${i + 3}`, 64)).flat();
  await settle();
  const late = told(resolver, "x.example", "198.18.2.3");
  assert.equal(rcodeOf(await late), 2);
  for (const answer of asked.values()) answer(null);
  await Promise.all(flood);
});

void test("an address that is no sandbox's is refused, and nobody is asked for it", async () => {
  const { resolver } = resolverOf(() => assert.fail("asked"));
  assert.equal(rcodeOf(await told(resolver, "x.example", "10.1.1.1")), 5);
});

void test("a defect in the way is told, and the asker gets SERVFAIL", async () => {
  const { resolver, defects } = resolverOf(() => Promise.reject(new Error("broken")));
  assert.equal(rcodeOf(await told(resolver, "x.example")), 2);
  assert.equal(defects.length, 1);
});

void test("UDP and TCP answer on the same port; garbage on TCP costs the connection only", async (context) => {
  const { resolver, defects } = resolverOf((question) => Promise.resolve(fetchedOf(question)), new VirtualClock());
  const port = await resolver.start();
  context.after(() => resolver.stop());
  const talk = (bytes: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        socket.end();
      });
      socket.on("close", () => resolve(Buffer.concat(chunks)));
      socket.on("error", reject);
    });
  assert.equal((await talk(Buffer.from("ffff00", "hex"))).length, 0);
  assert.equal((await talk(Buffer.from("0003616263", "hex"))).length, 0);
  const answer = await talk(framed(queryBytes("x.example", 9)));
  assert.equal(packet.decode(answer.subarray(2)).id, 9);
  const client = createSocket("udp4");
  context.after(() => client.close());
  const heard = new Promise<Buffer>((resolve) => client.once("message", resolve));
  client.send(Buffer.from("garbage"), port, "127.0.0.1");
  client.send(queryBytes("y.example", 10), port, "127.0.0.1");
  assert.equal(packet.decode(await heard).id, 10);
  assert.deepEqual(defects, []);
});

void test("over TCP one sandbox has its connections and no more, and the project with most gives way to another's first", async (context) => {
  let project = "greedy";
  const { resolver } = resolverOf(
    (asked) => Promise.resolve(fetchedOf(asked)),
    new VirtualClock(),
    () => project,
  );
  const port = await resolver.start();
  context.after(() => resolver.stop());
  const open = async (localAddress: string): Promise<Stream> => {
    const socket = connect({ port, host: "127.0.0.1", localAddress }).resume();
    context.after(() => socket.destroy());
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  const { tcpConnections, tcpConnectionsPerSource } = resolverLimits;
  const greedy: Stream[] = [];
  for (let i = 0; i < tcpConnections; i++)
    greedy.push(await open(`127.0.1.${1 + Math.floor(i / tcpConnectionsPerSource)}`));
  await Promise.all([once(await open("127.0.1.1"), "close"), once(await open("127.0.2.1"), "close")]);
  project = "other";
  const gone = once(greedy[0]!, "close");
  const other = await open("127.0.3.1");
  await gone;
  other.write(framed(queryBytes("x.example", 9)));
  const [answer] = (await once(other, "data")) as [Buffer];
  assert.equal(packet.decode(answer.subarray(2)).id, 9);
  assert.equal(greedy.filter((socket) => socket.destroyed).length, 1);
});

async function fakeServer(
  context: TestContext,
  address: string,
  port: number,
  on: (query: packet.DecodedPacket, answer: (bytes: Buffer) => void) => void,
): Promise<number> {
  const socket: Socket = createSocket("udp4");
  socket.on("message", (bytes, from) =>
    on(packet.decode(bytes), (reply) => socket.send(reply, from.port, from.address)),
  );
  await new Promise<void>((resolve) => socket.bind(port, address, () => resolve()));
  context.after(() => socket.close());
  return socket.address().port;
}

function replyTo(query: packet.DecodedPacket, change: Partial<packet.Packet> = {}): Buffer {
  const name = query.questions?.[0]?.name ?? "";
  return packet.encode({
    type: "response",
    id: query.id ?? 0,
    questions: query.questions ?? [],
    answers: [{ type: "A", name, ttl: 60, data: "20.0.0.9" }],
    ...change,
  });
}

const question: Question = { name: "x.example", type: "A" };
const never = new AbortController().signal;

void test("a resolver that is silent or refuses is passed over, and the one that answered is asked first then", async (context) => {
  const asked: string[] = [];
  const port = await fakeServer(context, "127.0.0.2", 0, (query, answer) => {
    asked.push("refuses");
    answer(replyTo(query, { flags: 5, answers: [] }));
  });
  await fakeServer(context, "127.0.0.3", port, () => asked.push("silent"));
  await fakeServer(context, "127.0.0.4", port, (query, answer) => {
    asked.push("answers");
    answer(replyTo(query));
  });
  // time runs a hundred times as fast for the timeout alone
  const clock = { ...systemClock, after: (ms: number, run: () => void) => systemClock.after(ms / 50, run) };
  const ask = createUpstream({ resolvers: () => ["127.0.0.2", "127.0.0.3", "127.0.0.4"], clock, port });
  assert.equal((await ask(question, never))?.answer.records[0]?.data, "20.0.0.9");
  assert.deepEqual(asked.splice(0), ["refuses", "silent", "answers"]);
  assert.equal((await ask(question, never))?.answer.records[0]?.data, "20.0.0.9");
  assert.deepEqual(asked, ["answers"]);
});

void test("forged answers before the right one change nothing", async (context) => {
  const port = await fakeServer(context, "127.0.0.2", 0, (query, answer) => {
    answer(replyTo(query, { id: ((query.id ?? 0) + 1) & 0xffff, answers: [] }));
    answer(replyTo(query, { questions: [{ type: "A", name: "other.example" }] }));
    answer(Buffer.from("nonsense"));
    answer(replyTo(query));
  });
  const ask = createUpstream({ resolvers: () => ["127.0.0.2"], clock: systemClock, port });
  assert.equal((await ask(question, never))?.answer.records[0]?.data, "20.0.0.9");
});

void test("an answer that is cut off is fetched by TCP", async (context) => {
  const port = await fakeServer(context, "127.0.0.2", 0, (query, answer) =>
    answer(replyTo(query, { flags: packet.TRUNCATED_RESPONSE, answers: [] })),
  );
  const server = createServer((socket) => {
    const reader = new FrameReader(512);
    socket.on("data", (chunk: Buffer) => {
      for (const frame of reader.push(chunk) ?? []) socket.write(framed(replyTo(packet.decode(frame))));
    });
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.2", () => resolve()));
  context.after(() => server.close());
  const ask = createUpstream({ resolvers: () => ["127.0.0.2"], clock: systemClock, port });
  const fetched = await ask(question, never);
  assert.equal(fetched?.answer.truncated, false);
  assert.equal(fetched.answer.records.length, 1);
});

void test("without a resolver, or with none that answers, there is no answer and no waiting for ever", async () => {
  const nobody = createUpstream({ resolvers: () => [], clock: systemClock });
  assert.equal(await nobody(question, never), null);
  const closed = createUpstream({ resolvers: () => ["127.0.0.9"], clock: systemClock, port: 1 });
  assert.equal(await closed(question, never), null);
});

void test("a question that is given up ends at once, and nobody else is asked", async (context) => {
  const asked = Promise.withResolvers<void>();
  const port = await fakeServer(context, "127.0.0.2", 0, () => asked.resolve());
  await fakeServer(context, "127.0.0.3", port, () => assert.fail("asked"));
  const clock = new VirtualClock();
  const ask = createUpstream({ resolvers: () => ["127.0.0.2", "127.0.0.3"], clock, port });
  const giveUp = new AbortController();
  const answer = ask(question, giveUp.signal);
  await asked.promise;
  giveUp.abort();
  assert.equal(await answer, null);
  assert.equal(clock.pending(), 0);
});
