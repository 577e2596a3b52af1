// For tests: the rest of the world in one process, in a network namespace of its own. TCP and UDP servers on every address, and a resolver.

import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import packet from "dns-packet";

/** @type {Record<string, import("dns-packet").Answer[]>} */
const zone = {
  "www.example.com": [{ type: "A", name: "www.example.com", ttl: 60, data: "20.0.0.10" }],
  "rebind.example.com": [
    { type: "A", name: "rebind.example.com", ttl: 1, data: "10.0.0.5" },
    { type: "A", name: "rebind.example.com", ttl: 1, data: "127.0.0.1" },
    { type: "A", name: "rebind.example.com", ttl: 1, data: "169.254.169.254" },
    { type: "A", name: "rebind.example.com", ttl: 1, data: "20.0.0.10" },
  ],
  "short.example.com": [{ type: "A", name: "short.example.com", ttl: 1, data: "20.0.0.11" }],
  "loop.example.com": [{ type: "A", name: "loop.example.com", ttl: 60, data: "127.0.0.1" }],
  "meta.example.com": [{ type: "A", name: "meta.example.com", ttl: 60, data: "169.254.169.254" }],
  "db.internal": [{ type: "A", name: "db.internal", ttl: 60, data: "10.0.0.5" }],
  "alias.example.com": [
    { type: "CNAME", name: "alias.example.com", ttl: 60, data: "inner.example.com" },
    { type: "A", name: "inner.example.com", ttl: 60, data: "192.168.1.1" },
  ],
  "big.example.com": Array.from({ length: 60 }, (_, i) => ({
    type: /** @type {const} */ ("A"),
    name: "big.example.com",
    ttl: 60,
    data: `20.1.0.${i + 1}`,
  })),
};

/** @param {Buffer} bytes @param {boolean} datagram @returns {Buffer | null} */
function answer(bytes, datagram) {
  const query = packet.decode(bytes);
  const question = query.questions?.[0];
  if (!question || question.name === "silent.example.com") return null;
  const records = zone[question.name.toLowerCase()];
  const found = (records ?? []).filter((record) => record.type === question.type || record.type === "CNAME");
  const chain = found.some((record) => record.type === "CNAME") ? (records ?? []) : found;
  const reply = packet.encode({
    type: "response",
    id: query.id ?? 0,
    flags: packet.RECURSION_AVAILABLE | (records ? 0 : 3),
    questions: [question],
    answers: chain,
  });
  if (!datagram || reply.length <= 512) return reply;
  return packet.encode({
    type: "response",
    id: query.id ?? 0,
    flags: packet.RECURSION_AVAILABLE | packet.TRUNCATED_RESPONSE,
    questions: [question],
    answers: [],
  });
}

/** Answers come from the address that was asked only if the socket is bound to it. */
const addresses = process.argv.slice(2);
/** @type {(() => void) | null} */
let late = null;
// a second answer when it is told to
process.stdin.on("data", () => late?.());

const streams = createServer((socket) => {
  socket.on("error", () => {});
  /** @type {Buffer} */
  let rest = Buffer.alloc(0);
  socket.on("data", (/** @type {Buffer} */ chunk) => {
    rest = Buffer.concat([rest, chunk]);
    if (rest.length < 2 || rest.length < 2 + rest.readUInt16BE()) return;
    const reply = answer(rest.subarray(2, 2 + rest.readUInt16BE()), false);
    if (!reply) return;
    const length = Buffer.alloc(2);
    length.writeUInt16BE(reply.length);
    socket.end(Buffer.concat([length, reply]));
  });
});

const tcpPorts = [25, 80, 443, 8080];
let left = tcpPorts.length + 2 + 3 * addresses.length;
const ready = () => --left === 0 && process.stdout.write("ready\n");
for (const port of tcpPorts) {
  createServer((socket) => {
    socket.on("error", () => {});
    socket.end(`tcp ${socket.remoteAddress}`);
  }).listen(port, "0.0.0.0", ready);
}
createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(7, "0.0.0.0", ready);
streams.listen(53, "0.0.0.0", ready);
for (const address of addresses) {
  const resolver = createSocket("udp4");
  resolver.on("message", (bytes, from) => {
    const reply = answer(bytes, true);
    if (reply) resolver.send(reply, from.port, from.address);
  });
  resolver.bind(53, address, ready);
  const echo = createSocket("udp4");
  echo.on("message", (_bytes, from) => {
    echo.send(`udp ${from.address}`, from.port, from.address);
    late = () => echo.send("late", from.port, from.address);
  });
  echo.bind(9999, address, ready);
  const talkative = createSocket("udp4");
  talkative.on("message", (_bytes, from) => talkative.send(Buffer.alloc(1_400), from.port, from.address));
  talkative.bind(9998, address, ready);
}
