// For tests: what a program inside a sandbox can reach. Steps as JSON in argv[2], results as one JSON line on stdout.

import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { connect, createServer } from "node:net";
import { networkInterfaces } from "node:os";

/** @typedef {{ do: string, host?: string, port?: number, from?: string, localPort?: number, name?: string, type?: string, server?: string, ms?: number, hex?: string, count?: number }} Step */

/** @param {Step} step @returns {Promise<string>} */
function tcp(step) {
  return new Promise((resolve) => {
    const socket = connect({
      host: step.host,
      port: step.port ?? 80,
      ...(step.from ? { localAddress: step.from } : {}),
    });
    let said = "";
    const timer = setTimeout(() => (socket.destroy(), resolve("timeout")), step.ms ?? 700);
    const end = (/** @type {string} */ text) =>
      (clearTimeout(timer), socket.destroy(), resolve(text));
    socket.on("data", (chunk) => (said += chunk));
    socket.on("connect", () => !said && step.do === "open" && end("open"));
    socket.on("end", () => end(said));
    socket.on("error", (/** @type {NodeJS.ErrnoException} */ error) => end(error.code ?? "error"));
  });
}

/** @param {Step} step @returns {Promise<string>} */
function udp(step) {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const timer = setTimeout(() => end("timeout"), step.ms ?? 700);
    const end = (/** @type {string} */ text) =>
      (clearTimeout(timer), socket.close(), resolve(text));
    socket.on("message", (bytes) => end(step.hex === undefined ? bytes.toString() : bytes.toString("hex")));
    socket.on("error", (/** @type {NodeJS.ErrnoException} */ error) => end(error.code ?? "error"));
    socket.bind(step.localPort ?? 0, step.from ?? "0.0.0.0", () => {
      const bytes = step.hex === undefined ? Buffer.from("hello") : Buffer.from(step.hex, "hex");
      for (let i = 0; i < (step.count ?? 1); i++) socket.send(bytes, step.port ?? 9999, step.host);
    });
  });
}

/** @param {Step} step */
async function dns(step) {
  const resolver = new Resolver({ timeout: step.ms ?? 2000, tries: 1 });
  resolver.setServers([step.server ?? ""]);
  try {
    return JSON.stringify(await resolver.resolve(step.name ?? "", step.type ?? "A"));
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}

/** Asks for the name, and connects to the first address that is told. @param {Step} step @returns {Promise<string>} */
async function named(step) {
  const told = await dns(step);
  return told.startsWith("[") ? tcp({ ...step, host: JSON.parse(told)[0] }) : told;
}

/** Connects to the name, tries to connect to its address again until that is refused, and uses what it has. @param {Step} step @returns {Promise<string>} */
async function stand(step) {
  const host = JSON.parse(await dns(step))[0];
  const socket = connect({ host, port: step.port ?? 80 });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const until = Date.now() + (step.ms ?? 700);
  let again = "open";
  while (again === "open" && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    again = await tcp({ ...step, do: "open", host });
  }
  socket.write("still there");
  const heard = await new Promise((resolve) => {
    const timer = setTimeout(() => resolve("silence"), 2_000);
    socket.once("data", (bytes) => (clearTimeout(timer), resolve(bytes.toString())));
  });
  socket.destroy();
  return `${again}, ${heard}`;
}

/** Opens `count` connections and keeps them; says how many are open when no more came for `ms`. @param {Step} step @returns {Promise<string>} */
function hold(step) {
  return new Promise((resolve) => {
    /** @type {import("node:net").Socket[]} */
    const sockets = [];
    let open = 0;
    const end = () => (sockets.forEach((socket) => socket.destroy()), resolve(String(open)));
    let timer = setTimeout(end, step.ms);
    for (let i = 0; i < (step.count ?? 1); i++) {
      const socket = connect({ host: step.host, port: step.port ?? 80 });
      socket.on("error", () => {});
      socket.on("connect", () => (open++, clearTimeout(timer), (timer = setTimeout(end, step.ms))));
      sockets.push(socket);
    }
  });
}

/** Asks by a socket of its own `count` times, no faster than is heard; says how many were answered. @param {Step} step @returns {Promise<string>} */
async function flows(step) {
  /** @type {import("node:dgram").Socket[]} */
  const sockets = [];
  let answered = 0;
  for (let i = 0; i < (step.count ?? 1); i++) {
    if (i % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 5));
    const socket = createSocket("udp4");
    socket.on("error", () => {});
    socket.on("message", () => answered++);
    socket.send("hello", step.port ?? 9999, step.host);
    sockets.push(socket);
  }
  await new Promise((resolve) => setTimeout(resolve, step.ms));
  for (const socket of sockets) socket.close();
  return String(answered);
}

/** Sends `count` datagrams by one socket; says how many were answered when no more came for `ms`. @param {Step} step @returns {Promise<string>} */
function burst(step) {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    let answered = 0;
    const end = () => (socket.close(), resolve(String(answered)));
    let timer = setTimeout(end, step.ms);
    socket.on("error", () => {});
    socket.on("message", () => (answered++, clearTimeout(timer), (timer = setTimeout(end, step.ms))));
    const bytes = Buffer.from(step.hex ?? "00", "hex");
    // A few at a time: whoever answers has a buffer too, which a busy machine would let overflow.
    let sent = 0;
    const few = () => {
      for (const most = Math.min(step.count ?? 1, sent + 8); sent < most; sent++)
        socket.send(bytes, step.port ?? 9999, step.host);
      if (sent === step.count) return;
      const wait = setTimeout(() => go(), 50);
      const go = () => (clearTimeout(wait), socket.off("message", check), few());
      const check = () => answered >= sent && go();
      socket.on("message", check);
    };
    few();
  });
}

/** Receives on the given port until something comes. @param {Step} step @returns {Promise<string>} */
function receive(step) {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const timer = setTimeout(() => (socket.close(), resolve("nothing")), step.ms ?? 700);
    socket.on("message", (bytes) => (clearTimeout(timer), socket.close(), resolve(bytes.toString())));
    socket.bind(step.port ?? 0, () => process.stderr.write("listening\n"));
  });
}

/** @returns {Promise<string>} */
function ipv6() {
  return new Promise((resolve) => {
    const addresses = Object.values(networkInterfaces())
      .flat()
      .filter((one) => one?.family === "IPv6");
    if (addresses.length > 0) return resolve(JSON.stringify(addresses));
    const server = createServer();
    server.on("error", (/** @type {NodeJS.ErrnoException} */ error) => resolve(error.code ?? "error"));
    server.listen(0, "::1", () => server.close(() => resolve("listens on ::1")));
  });
}

/** @type {Step[]} */
const steps = JSON.parse(process.argv[2] ?? "[]");
// all at once: what is closed is often known by its silence alone
const results = await Promise.all(
  steps.map(async (step) => {
    const started = process.hrtime.bigint();
    const run = { tcp, named, stand, open: tcp, hold, burst, udp, flows, dns, receive, ipv6 }[step.do];
    const result = run ? await run(step) : "no such step";
    return { result, ms: Number(process.hrtime.bigint() - started) / 1e6 };
  }),
);
process.stdout.write(`${JSON.stringify(results)}\n`);
