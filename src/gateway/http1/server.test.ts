// Connections over real sockets, in time that is moved by hand: whom they wait for, and how they end.

import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { until } from "#activator/world.testing.ts";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { Exchange } from "./exchange.ts";
import { get, ok, Served, type Client } from "./served.testing.ts";

let clock: VirtualClock;
let served: Served;
let exchanges: Exchange[];

beforeEach(async () => {
  clock = new VirtualClock();
  served = await Served.start({ clock, connections: { inAll: 6, each: 3 } });
  exchanges = served.exchanges;
});
afterEach(() => served.stop());

const open = (): Promise<Client> => served.open();
const arrived = (count: number): Promise<void> => served.arrived(count);
const arrivedAtLeast = (count: number): Promise<void> => until(() => exchanges.length >= count, `${count} requests`);
/** The server has its connection: what it does later, it does by its clock. */
const known = (): Promise<void> => until(() => clock.pending() > 0, "a connection");

test("a server without connections has no timer", async () => {
  assert.equal(clock.pending(), 0);
  const { socket, ended } = await open();
  await known();
  socket.destroy();
  await ended;
  await clock.advance(10_000);
  await until(() => clock.pending() === 0, "no timer");
});

test("a head that does not come in time: 408, and the connection ends; so does one that never begins", async () => {
  const [silent, slow] = [await open(), await open()];
  slow.socket.write("GET / HTTP/1.1\r\nhost:");
  await known();
  await clock.advance(15_000);
  slow.socket.write(" x\r\nx:");
  await clock.advance(11_000);
  await Promise.all([silent.ended, slow.ended]);
  assert.match(slow.received(), /^HTTP\/1\.1 408 /);
  assert.match(silent.received(), /^HTTP\/1\.1 408 /);
  assert.equal(exchanges.length, 0);
});

test("what lies in its socket unread while the server is held up counts for a client", async () => {
  const [first, later] = [await open(), await open()];
  later.socket.write(get("/"));
  await arrived(1);
  ok(exchanges[0]!, "first");
  await until(() => later.received().endsWith("first"), "the answer");
  /** What is written lies in the server's socket at once, and its timer runs before it reads again. */
  const askBeforeSweep = async (client: Client, afterMs: number, target: string): Promise<void> => {
    await clock.advance(afterMs);
    client.socket.write(get(target));
    assert.ok(clock.step(clock.monotonicUs() + 5_000_000));
  };
  await askBeforeSweep(first, 19_000, "/head");
  await arrived(2);
  ok(exchanges[1]!, "in time");
  await until(() => first.received().endsWith("in time"), "its answer");
  await askBeforeSweep(later, 49_000, "/next");
  await arrived(3);
  assert.deepEqual(
    exchanges.map(({ head }) => head.target),
    ["/", "/head", "/next"],
  );
});

test("a head of which the rest is not read, for its client has not read what it was answered, has all of its time", async () => {
  const { socket, received, ended } = await open();
  socket.pause();
  socket.write(get("/"));
  await arrived(1);
  exchanges[0]!.send(200, [], Buffer.alloc(16 * 1024 * 1024), false);
  socket.write(`${get("/")}GET /last HTTP/1.1\r\n`);
  await arrived(2);
  socket.write("host: x\r\n\r\n");
  ok(exchanges[1]!, "second");
  await clock.advance(30_000);
  socket.resume();
  await arrived(3);
  ok(exchanges[2]!, "third");
  await until(() => received().endsWith("third"), "the third answer");
  socket.destroy();
  await ended;
});

test("on a connection that was idle a head has all of its time", async () => {
  const { socket, received, ended } = await open();
  socket.write(get("/"));
  await arrived(1);
  ok(exchanges[0]!, "first");
  await until(() => received().endsWith("first"), "the answer");
  await clock.advance(60_000);
  socket.write("GET /slow HTTP/1.1\r\n");
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  await clock.advance(15_000);
  socket.write("host: x\r\n\r\n");
  await arrived(2);
  ok(exchanges[1]!, "second");
  await until(() => received().endsWith("second"), "the second answer");
  socket.destroy();
  await ended;
});

test("an answer may take as long as it takes, and a connection that is kept ends when nothing comes for long enough", async () => {
  const { socket, received, ended } = await open();
  socket.write(get("/"));
  await arrived(1);
  await clock.advance(3_600_000);
  ok(exchanges[0]!, "late");
  await until(() => received().endsWith("late"), "the answer");
  assert.match(received(), /keep-alive: timeout=65\r\n/);
  await clock.advance(60_000);
  socket.write(get("/again"));
  await arrived(2);
  ok(exchanges[1]!, "again");
  await until(() => received().endsWith("again"), "the second answer");
  await clock.advance(60_000);
  assert.equal(socket.destroyed, false);
  await clock.advance(15_000);
  await ended;
});

test("a client that does not read the rest of its answer is cut off, like one that says nothing", async () => {
  const { socket, ended } = await open();
  socket.pause();
  socket.write(get("/"));
  await arrived(1);
  exchanges[0]!.start(200, [], null, false);
  const piece = Buffer.alloc(64 * 1024);
  while (exchanges[0]!.write(piece)) await new Promise((resolve) => setImmediate(resolve));
  exchanges[0]!.end();
  await clock.advance(60_000);
  assert.equal(served.gone, 0);
  await clock.advance(20_000);
  socket.resume();
  await ended;
});

test("answers that are ready early wait for their turn; the one that closes is the last, also when others are ready behind it", async () => {
  const { socket, received, ended } = await open();
  socket.write(get("/1") + get("/2") + get("/3") + get("/4", "connection: close\r\n"));
  await arrived(4);
  ok(exchanges[1]!, "two");
  ok(exchanges[3]!, "four");
  exchanges[2]!.start(200, [], null, false);
  assert.equal(exchanges[2]!.write(Buffer.from("thr")), false, "it is not its turn: no more for now");
  assert.equal(received(), "");
  ok(exchanges[0]!, "one");
  exchanges[2]!.write(Buffer.from("ee"));
  exchanges[2]!.end();
  await ended;
  const bodies = received()
    .split(/(?=HTTP\/1\.1)/)
    .map((answer) => answer.slice(answer.indexOf("\r\n\r\n") + 4));
  assert.deepEqual(bodies, ["one", "two", "3\r\nthr\r\n2\r\nee\r\n0\r\n\r\n", "four"]);
  assert.equal(received().match(/connection: close/g)!.length, 1);
  assert.equal(served.gone, 0);
});

test("of the requests that a client sends ahead four are served at once, and the others in their turn", async () => {
  const { socket, received } = await open();
  socket.write(Array.from({ length: 10 }, (_, n) => get(`/${n}`)).join(""));
  await arrived(4);
  for (let n = 0; n < 10; n++) {
    await arrivedAtLeast(Math.min(10, n + 4));
    assert.equal(exchanges.length, Math.min(10, n + 4));
    ok(exchanges[n]!, `answer ${n}`);
  }
  await until(() => received().endsWith("answer 9"), "the last answer");
  assert.deepEqual(
    exchanges.map(({ head }) => head.target),
    Array.from({ length: 10 }, (_, n) => `/${n}`),
  );
});

test("what a client asked behind an answer that closes is dropped, and whoever answers it is told", async () => {
  const { socket, received, ended } = await open();
  socket.write(get("/1") + get("/2"));
  await arrived(2);
  exchanges[0]!.send(400, [], Buffer.from("no"), true);
  await ended;
  assert.equal(received().match(/HTTP\/1\.1/g)!.length, 1);
  assert.equal(served.gone, 1);
});

test("a body stays in the client's socket until somebody takes it", async () => {
  const { socket } = await open();
  const size = 32 * 1024 * 1024;
  socket.write(`POST / HTTP/1.1\r\ncontent-length: ${size}\r\n\r\n`);
  const body = Buffer.alloc(size, "a");
  socket.write(body);
  await arrived(1);
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(socket.bytesWritten - socket.writableLength < size, "the kernel holds some, and the client the rest");
  let taken = 0;
  const whole = new Promise<void>((resolve, reject) => {
    exchanges[0]!.receive({ data: (chunk) => void (taken += chunk.length), end: () => resolve(), failed: reject });
  });
  await whole;
  assert.equal(taken, size);
});

test("a body that nobody wants is thrown away, and the connection is kept", async () => {
  const { socket, received } = await open();
  socket.write(`POST / HTTP/1.1\r\ncontent-length: 3000000\r\n\r\n`);
  await arrived(1);
  ok(exchanges[0]!, "early");
  await until(() => received().endsWith("early"), "the answer");
  socket.write("a".repeat(3_000_000) + get("/next"));
  await arrived(2);
  ok(exchanges[1]!, "next");
  await until(() => received().endsWith("next"), "the next answer");
});

test("nonsense in the rest of a body whose request is answered ends the connection", async () => {
  const { socket, received, ended } = await open();
  socket.write("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
  await arrived(1);
  ok(exchanges[0]!, "early");
  await until(() => received().endsWith("early"), "the answer");
  socket.write("nonsense\r\n");
  await ended;
  assert.equal(received().match(/HTTP\/1\.1/g)!.length, 1);
});

test("a client that goes ends its exchanges, and a body that was on its way fails", async () => {
  const { socket } = await open();
  socket.write(`POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc`);
  await arrived(1);
  const failed = new Promise<Error>((resolve) => {
    exchanges[0]!.receive({ data() {}, end() {}, failed: resolve });
  });
  socket.destroy();
  assert.match((await failed).message, /closed the connection before its body was complete/);
  assert.equal(served.gone, 1);
});

test("while it closes, answers under way go out and end their connections, and idle ones end at once", async () => {
  const [idle, busy] = [await open(), await open()];
  idle.socket.write(get("/"));
  await arrived(1);
  ok(exchanges[0]!, "idle");
  busy.socket.write(get("/"));
  await arrived(2);
  served.closing = true;
  const closed = served.server.close();
  await idle.ended;
  ok(exchanges[1]!, "busy");
  await busy.ended;
  assert.match(busy.received(), /connection: close\r\n[^]*busy$/);
  await closed;
});

test("a client that asks on and on and reads nothing is not read on", async () => {
  const { socket } = await open();
  socket.pause();
  const answer = Buffer.alloc(200, "a");
  const serving = setInterval(() => {
    for (const exchange of exchanges.splice(0)) exchange.send(200, [], answer, false);
  });
  const flood = Buffer.from(get("/").repeat(20_000));
  try {
    let taken = 0;
    // So many turns without a byte taken: it is not read any more.
    for (let still = 0; still < 300; still++) {
      if (socket.writableLength === 0) socket.write(flood);
      await new Promise((resolve) => setTimeout(resolve, 1));
      const now = socket.bytesWritten - socket.writableLength;
      if (now !== taken) still = 0;
      taken = now;
      assert.ok(taken < 30_000_000, "it is read without bound");
    }
  } finally {
    clearInterval(serving);
  }
});

test("a crowd of requests on one connection is not read further than it is answered", async () => {
  const { socket } = await open();
  for (let i = 0; i < 200; i++) {
    socket.write(get(`/${i}?${"x".repeat(10_000)}`));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const read = exchanges.length;
  assert.ok(read < 60, `${read} were read`);
  for (let answered = 0; answered < 200; answered++) {
    await arrivedAtLeast(answered + 1);
    ok(exchanges[answered]!, "x");
  }
});

/** A client whose first request has been answered. */
async function rested(party: string | null): Promise<Client> {
  const client = await asking(party);
  ok(exchanges.at(-1)!, "rests");
  await until(() => client.received().endsWith("rests"), "the answer");
  return client;
}

/** A client whose request waits for its answer. */
async function asking(party: string | null): Promise<Client> {
  const before = exchanges.length;
  served.parties.push(party);
  const client = await open();
  client.socket.write(get("/"));
  await arrived(before + 1);
  return client;
}

/** Those that are open, as indices: what ended is known to the client a moment later. */
const openOf = (clients: readonly Client[]): number[] =>
  clients.flatMap(({ socket }, i) => (socket.destroyed ? [] : [i]));

test("when all connections are taken, the one that carries no request for longest gives way", async () => {
  const clients: Client[] = [];
  for (const party of ["a", "b", "c", "d", "e"]) clients.push(await rested(party));
  clients.push(await asking("f"));
  clients[0]!.socket.write(get("/again"));
  await arrived(7);
  ok(exchanges[6]!, "again");
  await until(() => clients[0]!.received().endsWith("again"), "the second answer");
  await rested("g");
  await clients[1]!.ended;
  assert.deepEqual(openOf(clients), [0, 2, 3, 4, 5]);
  assert.equal(served.gone, 0);
});

test("a connection whose head is still on its way carries no request", async () => {
  served.parties.push("slow");
  const slow = await open();
  slow.socket.write("GET / HT");
  await known();
  for (const party of ["a", "b", "c", "d", "e"]) await asking(party);
  await asking("f");
  await slow.ended;
  assert.equal(served.gone, 0);
});

test("who has more than a share gives way first, even where others rest for longer; and then what is at work there", async () => {
  const small = await rested("small");
  const greedy = [await asking("greedy"), await rested("greedy")];
  for (let i = 0; i < 3; i++) greedy.push(await asking("greedy"));
  const others = [await asking("a")];
  await greedy[1]!.ended;
  others.push(await asking("b"));
  await small.ended;
  others.push(await asking("c"));
  await greedy[0]!.ended;
  assert.equal(served.gone, 1);
  served.parties.push("d");
  const refused = await open();
  await refused.ended;
  assert.deepEqual(
    [openOf(greedy), openOf(others)],
    [
      [2, 3, 4],
      [0, 1, 2],
    ],
  );
});

test("one client that opens more than there are gets no others' place, and keeps those that it has", async () => {
  const other = await rested("other");
  const greedy: Client[] = [];
  for (let i = 0; i < 5; i++) greedy.push(await asking("greedy"));
  served.parties.push("greedy");
  const refused = await open();
  await refused.ended;
  assert.deepEqual(openOf([other, ...greedy]), [0, 1, 2, 3, 4, 5]);
});

test("a connection that has become another protocol's does not count as resting", async () => {
  served.upgrading = true;
  const web = await asking("web");
  served.upgrading = false;
  ok(exchanges[0]!, "switched");
  await until(() => web.received().endsWith("switched"), "the answer");
  for (const party of ["a", "b", "c", "d", "e"]) await asking(party);
  served.parties.push("f");
  const refused = await open();
  await refused.ended;
  assert.equal(web.socket.destroyed, false);
});
