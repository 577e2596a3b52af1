// What tenants' code reaches from inside real functions: secrets, neighbours, the machine and ebb's own ears. Egress is not
// tried against real addresses: nothing here leaves the machine.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, statSync, type Dirent } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { linkLimits } from "#model/limits.ts";
import { defaultRunRoot } from "#spawner/run-root.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";

const canary = "canary-5d1f0c77-of-nobody-else";
const made: string[] = [];
let daemon: Daemon;
/** What nobody has touched since cannot hold it: above all the programs of the machine that sandboxes have, which are large. */
let beforeSecretMs = 0;

/** Runs what it is sent: the tests are its author. */
const node = `import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
export default async (request) => {
  const code = await request.text();
  if (code === "") return new Response("calm");
  return Response.json((await new Function("require", "return (async () => {" + code + "})()")(require)) ?? null);
};`;
const python = `import json
def handle(event, context):
    scope = {}
    exec(event["body"], scope)
    return {"statusCode": 200, "body": json.dumps(scope.get("out"))}
`;
/** A program of its own, which also listens where a sibling would look for it. */
const program = `#!/usr/bin/node
import { networkInterfaces } from "node:os";
const { createServer } = process.getBuiltinModule("node:http");
createServer((_request, response) => response.end(JSON.stringify(networkInterfaces().eth0[0].address))).listen(process.env.PORT);
`;

before(async () => {
  daemon = await startDaemon();
  const app = folderOf({
    "ebb.yaml": `functions:
  node: { source: ./node, public: true, memoryMb: 256, timeoutSeconds: 20, secrets: [CANARY] }
  calm: { source: ./node, public: true, memoryMb: 64, concurrency: 50, max: 1 }
  private: { source: ./node, memoryMb: 64 }
  python: { source: ./python, public: true, memoryMb: 128, timeoutSeconds: 20, secrets: [CANARY] }
  program: { source: ./program, runtime: custom, command: [./run.mjs], public: true, memoryMb: 128, secrets: [CANARY] }
`,
    "node/index.mjs": node,
    "python/main.py": python,
    "program/run.mjs": program,
  });
  made.push(app);
  const { chmodSync } = await import("node:fs");
  chmodSync(join(app, "program/run.mjs"), 0o755);
  beforeSecretMs = Date.now() - 100;
  assert.equal((await daemon.ebb(["secrets", "set", "CANARY"], { stdin: canary })).code, 0);
  const deployed = await daemon.ebb(["deploy", app]);
  assert.equal(deployed.code, 0, deployed.stderr);
});
after(async () => {
  await daemon?.stop();
  for (const folder of [...made, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
});

async function inside<T>(code: string, name = "node"): Promise<T> {
  const answer = await daemon.fetch(`${name}.localhost`, "/", { method: "POST", body: code });
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(answer.text) as T;
}

const connecting = `const net = require("node:net");
const tried = (host, port, ms = 700) => new Promise((resolve) => {
  const socket = net.connect({ host, port, timeout: ms });
  socket.on("connect", () => { socket.destroy(); resolve("open"); });
  socket.on("timeout", () => { socket.destroy(); resolve("closed"); });
  socket.on("error", () => resolve("closed"));
});
`;

function filesBelow(folder: string, visit: (path: string) => void): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) filesBelow(path, visit);
    else if (entry.isFile()) visit(path);
  }
}

/** A namespace's file is regular and cannot be read; what has just gone holds nothing. */
/** None where it has gone meanwhile: other daemons' folders come and go. */
function entriesAt(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function readableAt(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (["EINVAL", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "")) return Buffer.alloc(0);
    throw error;
  }
}

/** The processes of ebb itself: the daemon, and what it started, but for the sandboxes' own users. */
function ownProcesses(): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)))
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended.
    }
  const descends = (pid: number): boolean =>
    pid === daemon.process.pid || (parents.has(pid) && descends(parents.get(pid)!));
  return [...parents.keys()].filter(
    (pid) => descends(pid) && statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid === 0,
  );
}

test("a secret stands in no file, no argument, no environment and no answer of ebb's own", async () => {
  for (const name of ["node", "python"])
    assert.equal(
      await inside<string>(
        name === "node" ? "return process.env.CANARY" : "import os\nout = os.environ['CANARY']",
        name,
      ),
      canary,
    );
  await daemon.fetch("program.localhost", "/");
  const held: string[] = [];
  const looked: string[] = [];
  const look = (path: string, bytes: Buffer): void => {
    looked.push(path);
    if (bytes.includes(canary)) held.push(path);
  };
  const touched = (path: string): boolean => {
    const { ctimeMs = 0, mtimeMs = 0, nlink = 1 } = statSync(path, { throwIfNoEntry: false }) ?? {};
    // The machine's own programs were linked into the roots since, which changes nothing in them.
    return (nlink > 1 ? mtimeMs : ctimeMs) >= beforeSecretMs;
  };
  filesBelow(daemon.directory, (path) => void (touched(path) && look(path, readFileSync(path))));
  const spawner = ownProcesses();
  assert.ok(spawner.length >= 2, "the daemon and its spawner");
  for (const pid of spawner)
    for (const file of ["cmdline", "environ"]) look(`/proc/${pid}/${file}`, readFileSync(`/proc/${pid}/${file}`));
  const lookBelow = (folder: string): void => {
    for (const entry of entriesAt(folder)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) lookBelow(path);
      else if (entry.isFile() && touched(path)) look(path, readableAt(path));
    }
  };
  lookBelow(defaultRunRoot());
  for (const [place, is] of [
    ["the database", (path: string) => path.includes("/ebb.db")],
    ["its log", (path: string) => path.includes("/log")],
    ["a process's environment", (path: string) => path.endsWith("/environ")],
    ["what it keeps while it runs", (path: string) => path.startsWith(`${defaultRunRoot()}/`)],
  ] as const)
    assert.ok(looked.some(is), `${place} was looked at`);
  assert.deepEqual(held, []);
  // In JSON: all that the API answers, of which the tables show a part.
  for (const command of [["show", "node"], ["ls"], ["audit"], ["secrets", "ls"], ["revisions", "node"], ["logs"]]) {
    const { code, stdout } = await daemon.ebb([...command, "--json"]);
    assert.equal(code, 0, command.join(" "));
    assert.ok(!stdout.includes(canary), command.join(" "));
  }
  assert.ok(!(await daemon.ebb(["show", "node"])).stdout.includes(canary));
  assert.ok(!daemon.log().includes(canary));
});

test("what ebb keeps is nobody's to read but what sandboxes read themselves: code and runtimes", () => {
  const open: string[] = [];
  filesBelow(daemon.directory, (path) => {
    const readable = (statSync(path).mode & 0o077) !== 0;
    if (readable && !/^(code|roots|runtimes)\//.test(path.slice(daemon.directory.length + 1))) open.push(path);
  });
  assert.deepEqual(open, []);
  // Sandboxes pass through it to their code, and list nothing.
  assert.equal(statSync(daemon.directory).mode & 0o077 & ~0o011, 0);
});

test("on the machine's network ebb listens at the address that it was told, and nowhere else", () => {
  const sockets = new Set<string>();
  for (const pid of ownProcesses())
    for (const fd of readdirSync(`/proc/${pid}/fd`))
      try {
        sockets.add(/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? "");
      } catch {
        // It was closed meanwhile.
      }
  const listening: string[] = [];
  for (const table of ["tcp", "tcp6", "udp", "udp6"])
    for (const line of readFileSync(`/proc/net/${table}`, "latin1").trim().split("\n").slice(1)) {
      const [, local = "", , state, , , , , , inode = ""] = line.trim().split(/\s+/);
      if (sockets.has(inode) && (state === "0A" || table.startsWith("udp"))) listening.push(`${table} ${local}`);
    }
  const port = daemon.port.toString(16).toUpperCase().padStart(4, "0");
  // Besides, on its own end of the links: names, and ebb.internal.
  const links = /^(tcp|udp) [0-9A-F]{4}1[23]C6:(0050|0035)$/;
  assert.deepEqual(
    listening.filter((one) => !links.test(one)),
    [`tcp 0100007F:${port}`],
  );
});

test("what a function was started with holds no secret; only its own memory does", async () => {
  assert.ok(
    !(await inside<string>(`return require("node:fs").readFileSync("/proc/1/environ", "utf8")`)).includes(canary),
  );
  assert.ok(!(await inside<string>("out = open('/proc/1/environ').read()", "python")).includes(canary));
});

test("a mount tells a function nothing of where ebb lives", async () => {
  const mounts = await inside<string>(`return require("node:fs").readFileSync("/proc/self/mountinfo", "utf8")`);
  assert.ok(!mounts.includes(daemon.directory) && !mounts.includes("shared:"), mounts);
  assert.doesNotMatch(mounts, /\/(home|root|work|opt|srv)\//);
});

test("the machine's and ebb's own ports are closed, in every spelling of an address", async () => {
  const { port } = daemon;
  const opened = await inside<Record<string, string>>(`${connecting}
    const gateway = /nameserver (\\S+)/.exec(require("node:fs").readFileSync("/etc/resolv.conf", "utf8"))[1];
    const [a, b, c, d] = gateway.split(".").map(Number);
    const number = ((a * 256 + b) * 256 + c) * 256 + d;
    const hosts = [gateway, "::ffff:" + gateway, String(number), "0x" + number.toString(16), "0" + number.toString(8),
      "127.0.0.1", "0.0.0.0", "0", "127.1", "::1", "2130706433", "localhost", "node.localhost"];
    const answers = {};
    await Promise.all(hosts.flatMap((host) => [${port}, 22, 2375, 5432, 9000, 9324].map(async (port) => { answers[host + " " + port] = await tried(host, port); })));
    return answers;`);
  assert.deepEqual(
    Object.entries(opened).filter(([, state]) => state === "open"),
    [],
  );
});

test("metadata, private, link-local and reserved ranges are closed at once or silent", async () => {
  const opened = await inside<string[]>(`${connecting}
    const hosts = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "10.0.0.1", "172.17.0.1", "192.168.0.1", "100.64.0.1", "192.0.2.1", "240.0.0.1", "fd00:ec2::254"];
    return Promise.all(hosts.map((host) => tried(host, 80)));`);
  assert.ok(
    opened.every((state) => state === "closed"),
    String(opened),
  );
});

test("a sibling that listens is not reached, by its address or by a search for it", async () => {
  const sibling = JSON.parse((await daemon.fetch("program.localhost", "/")).text) as string;
  assert.match(sibling, /^198\.1[89]\./);
  const found = await inside<string[]>(`${connecting}
    const [a, b, c] = ${JSON.stringify(sibling)}.split(".");
    const hosts = Array.from({ length: 254 }, (_, i) => [a, b, c, i + 1].join("."));
    const own = require("node:os").networkInterfaces().eth0[0].address;
    const gateway = /nameserver (\\S+)/.exec(require("node:fs").readFileSync("/etc/resolv.conf", "utf8"))[1];
    const open = [];
    await Promise.all(hosts.filter((host) => host !== own && host !== gateway).map(async (host) => { if (await tried(host, 8080, 400) === "open") open.push(host); }));
    const heard = await new Promise((resolve) => {
      const socket = require("node:dgram").createSocket("udp4");
      socket.on("message", () => resolve(["udp"]));
      socket.send("x", 8080, ${JSON.stringify(sibling)}, () => {});
      setTimeout(() => { socket.close(); resolve([]); }, 200);
    });
    return [...open, ...heard];`);
  assert.deepEqual(found, []);
});

test(
  "no socket below the internet's two transports can be had, and none makes the kernel load a protocol",
  { skip: process.arch !== "x64" && "numbers of x86-64" },
  async () => {
    const errnos = await inside<Record<string, number>>(
      `import ctypes, socket
c = ctypes.CDLL(None, use_errno=True)
out = {}
for name, family, kind, protocol in [("raw", 2, 3, 1), ("raw6", 10, 3, 58), ("packet", 17, 3, 768), ("ping", 2, 2, 1), ("sctp", 2, 1, 132), ("seqpacket", 2, 5, 132), ("dccp", 2, 6, 0), ("udplite", 2, 2, 136), ("vsock", 40, 1, 0), ("alg", 38, 5, 0), ("audit", 16, 3, 9), ("tcp", 2, 1, 0), ("udp", 2, 2 | 0o2000000 | 0o4000, 17), ("tcp6", 10, 1, 6)]:
    ctypes.set_errno(0)
    out[name] = ctypes.get_errno() if c.syscall(41, family, kind, protocol) < 0 else 0
`,
      "python",
    );
    const { raw, raw6, ping, tcp, udp, tcp6, ...others } = errnos;
    assert.deepEqual({ raw, raw6, ping, tcp, udp, tcp6 }, { raw: 1, raw6: 1, ping: 13, tcp: 0, udp: 0, tcp6: 0 });
    for (const [name, errno] of Object.entries(others)) assert.equal(errno, 38, `${name}: ENOSYS, from the filter`);
  },
);

test("names tell nothing of other tenants, and a flood of questions leaves the neighbour's answered", async () => {
  const names = await inside<string[]>(`const dns = require("node:dns/promises");
    const ask = (name) => dns.resolve4(name).then(String, (error) => error.code);
    return Promise.all(["metadata.google.internal", "calm", "instance-data", "sandbox"].map(ask));`);
  assert.ok(
    names.every((answer) => answer === "ENOTFOUND"),
    String(names),
  );
  const flooding = inside(`const socket = require("node:dgram").createSocket("udp4");
    const gateway = /nameserver (\\S+)/.exec(require("node:fs").readFileSync("/etc/resolv.conf", "utf8"))[1];
    for (let i = 0; i < 20000; i++) { socket.send(Buffer.alloc(40, i), 53, gateway, () => {}); if (i % 500 === 0) await new Promise(setImmediate); }
    socket.close();`);
  assert.match(
    await inside<string>(`return require("node:dns/promises").resolve4("x.ebb.internal").then(String)`, "calm"),
    /^198\./,
  );
  await flooding;
});

test("ebb.internal believes an address on a link, and nothing that is said", async () => {
  const statuses = await inside<Record<string, number>>(`const answers = {};
    const http = require("node:http");
    const ask = (name, path, headers) => new Promise((resolve, reject) => http.get({ host: "ebb.internal", path, headers, agent: false }, (response) => {
      response.resume(); answers[name] = response.statusCode; response.on("end", resolve); }).on("error", reject));
    await ask("own", "/run/default/private/", { host: "ebb.internal" });
    await ask("forged credential", "/run/default/private/", { host: "ebb.internal", "ebb-credential": "ebi_" + "A".repeat(43) });
    await ask("credential in the path", "/_/ebi_" + "A".repeat(43) + "/run/default/private/", { host: "ebb.internal" });
    await ask("another project", "/run/other/private/", { host: "ebb.internal", "x-forwarded-host": "private.ebb.internal" });
    await ask("another project's name", "/", { host: "private--other.ebb.internal" });
    await ask("a public name", "/", { host: "calm.localhost" });
    await ask("the API", "/api/v1/projects", { host: "ebb.internal" });
    await ask("metrics", "/metrics", { host: "127.0.0.1" });
    return answers;`);
  assert.deepEqual(statuses, {
    own: 200,
    "forged credential": 401,
    "credential in the path": 401,
    "another project": 401,
    "another project's name": 421,
    "a public name": 421,
    "the API": 404,
    metrics: 404,
  });
});

test("one sandbox cannot take all of ebb.internal's connections", async () => {
  const holding = await inside<number>(`const net = require("node:net"); const sockets = [];
    const open = () => new Promise((resolve) => { const socket = net.connect(80, "ebb.internal"); sockets.push(socket);
      socket.on("connect", resolve); socket.on("error", resolve); setTimeout(resolve, 1000); });
    for (let i = 0; i < 6; i++) { await Promise.all(Array.from({ length: 100 }, open)); await new Promise((f) => setTimeout(f, 150)); }
    globalThis.held = sockets;
    // One whose first packet was dropped is let in at its second, a second later.
    return sockets.filter((socket) => socket.readyState === "open").length;`);
  assert.ok(holding > 100 && holding <= linkLimits.internalConnections, `${holding} connections`);
  assert.equal(await inside(`return (await fetch("http://private.ebb.internal/")).status`, "calm"), 200);
  await inside("for (const socket of globalThis.held) socket.destroy();");
});

test("the control connection takes no second assignment and no flood; the neighbour does not feel either", async () => {
  const again = await daemon.fetch("node.localhost", "/ebb/v1/assign", {
    method: "POST",
    body: "return process.env.EBB_WORKLOAD",
  });
  assert.equal(again.text, '"node"', "a path like any other, for the function's own code");
  const flooding = inside<number>(`const fs = require("node:fs");
    const line = '{"done":"01m85w3dgajdycr4dza86dr5ty"}\\n{}\\n'.repeat(1000);
    const chunk = Buffer.from(Buffer.byteLength(line).toString(16) + "\\r\\n" + line + "\\r\\n");
    const fds = fs.readdirSync("/proc/self/fd").map(Number).filter((fd) => { try { return fd > 3 && fs.readlinkSync("/proc/self/fd/" + fd).startsWith("socket"); } catch { return false; } });
    const until = Date.now() + 2000; let written = 0; let at = 0; const wait = new Int32Array(new SharedArrayBuffer(4));
    while (Date.now() < until) try { const n = fs.writeSync(Math.min(...fds), chunk, at); written += n; at = (at + n) % chunk.length; }
      catch (error) { if (error.code !== "EAGAIN") throw error; Atomics.wait(wait, 0, 0, 1); }
    return written;`);
  const waits: number[] = [];
  for (let i = 0; i < 40; i++) {
    const startedMs = performance.now();
    assert.equal((await daemon.fetch("calm.localhost", "/")).text, "calm");
    waits.push(performance.now() - startedMs);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  // Some 20 MB where nobody holds it back; the bound is 0.4 MB a second and a burst.
  const written = await flooding;
  assert.ok(written < 8e6, `${written} bytes were heard`);
  assert.ok(waits.toSorted((a, b) => a - b)[20]! < 200, String(waits));
});

test("hundreds of megabytes of log become a bounded file, and it says what it dropped", async () => {
  const flood = `const fs = require("node:fs"); const lines = ("x".repeat(1023) + "\\n").repeat(64);
    const until = Date.now() + 6000; let written = 0; while (written < 3e8 && Date.now() < until) written += fs.writeSync(1, lines); return written;`;
  assert.ok((await inside<number>(flood)) > 5e7);
  await eventually("it says so", async () => (await daemon.ebb(["logs", "node"])).stdout.includes("dropped"));
  let bytes = 0;
  filesBelow(daemon.directory, (path) => void (/\/logs?\//.test(path) && (bytes += statSync(path).size)));
  assert.ok(bytes > 0 && bytes < 32e6, `${bytes} bytes of log`);
});

test("no process of ebb holds a file of a sandbox, and no sandbox one of ebb's", () => {
  for (const pid of ownProcesses())
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      let target = "";
      try {
        target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        continue;
      }
      assert.doesNotMatch(target, /^\/(var\/task|runtime)\//);
    }
});
