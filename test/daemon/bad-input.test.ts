// What a hostile client sends to a real ebb: heads, hosts, paths, tokens, archives, app files and options. Nothing of it is
// served, nothing of it ends a connection that it should not, and ebb answers as before.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { end, entry, type RawEntry } from "#builds/archives.testing.ts";
import { folderOf, removeDirectory, startDaemon, type Answer, type Daemon } from "./fixture.ts";

const code: RawEntry = { name: "index.mjs", body: "export default () => new Response('x')" };
const made: string[] = [];
let daemon: Daemon;

before(async () => {
  daemon = await startDaemon();
  const echo =
    "export default async (r) => Response.json({ url: r.url, headers: Object.fromEntries(r.headers), body: await r.text() })";
  const app = folderOf({
    "ebb.yaml":
      "functions:\n  open: { source: ./echo, public: true, memoryMb: 64, concurrency: 100, max: 1 }\n  shut: { source: ./echo, memoryMb: 64 }\n",
    "echo/index.mjs": echo,
  });
  made.push(app);
  assert.equal((await daemon.ebb(["deploy", app])).code, 0);
  assert.equal((await daemon.fetch("open.localhost", "/")).status, 200);
});
afterEach(async () => {
  assert.equal((await daemon.fetch(null, "/healthz")).text, "ok\n", "ebb answers as before");
});
after(async () => {
  await daemon?.stop();
  for (const folder of [...made, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
});

/** Bytes as they are; the first answer's status, 0 where the connection just ended. */
async function raw(text: string): Promise<number> {
  const socket = connect(daemon.port, "127.0.0.1");
  let received = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (received += chunk));
  socket.on("error", () => {});
  socket.write(text, "latin1");
  while (!received.includes("\r\n\r\n") && !socket.readableEnded && !socket.destroyed)
    await Promise.race([once(socket, "data"), once(socket, "close")]).catch(() => {});
  socket.destroy();
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(received)?.[1] ?? 0);
}

function deploy(body: Uint8Array, query = "name=victim", type = "application/gzip"): Promise<Answer> {
  const headers = { authorization: `Bearer ${daemon.token}`, "content-type": type };
  return daemon.fetch(null, `/api/v1/deploys?${query}`, { method: "POST", headers, body });
}

function archived(...entries: readonly RawEntry[]): Buffer {
  return gzipSync(Buffer.concat([...entries.map(entry), end]), { level: 1 });
}

/** What the thread that all wait for has computed, however slow the machine is. */
function mainThreadMs(): number {
  const pid = daemon.process.pid!;
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "latin1").split(" ")[0]) / 1e6;
}

const platform = "host: localhost\r\n";
const heads: ReadonlyArray<readonly [string, string, number]> = [
  ["a foreign host for the API", "GET /api/v1/version HTTP/1.1\r\nhost: evil.example\r\n\r\n", 421],
  ["a host that only ends like ours", "GET /api/v1/version HTTP/1.1\r\nhost: localhost.evil.example\r\n\r\n", 421],
  ["an address in decimal", "GET /healthz HTTP/1.1\r\nhost: 2130706433\r\n\r\n", 421],
  ["an address in hexadecimal", "GET /healthz HTTP/1.1\r\nhost: 0x7f.0.0.1\r\n\r\n", 421],
  ["a short address", "GET /healthz HTTP/1.1\r\nhost: 127.1\r\n\r\n", 421],
  ["an address with a zone", "GET /healthz HTTP/1.1\r\nhost: [::1%25lo]\r\n\r\n", 400],
  ["a port beyond ports", "GET / HTTP/1.1\r\nhost: open.localhost:65536\r\n\r\n", 400],
  ["a list of hosts", "GET / HTTP/1.1\r\nhost: open.localhost, evil\r\n\r\n", 400],
  ["a private workload by x-forwarded-host", `GET /api/v1/projects HTTP/1.1\r\n${platform}x-forwarded-host: shut.localhost\r\n\r\n`, 401],
  ["a private workload by upgrade", "GET / HTTP/1.1\r\nhost: shut.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 401],
  ["the API by upgrade", `GET /api/v1/version HTTP/1.1\r\n${platform}connection: upgrade\r\nupgrade: websocket\r\n\r\n`, 400],
  ["a preflight of the API", `OPTIONS /api/v1/projects HTTP/1.1\r\n${platform}origin: http://evil\r\naccess-control-request-method: POST\r\n\r\n`, 401],
  ["an instance's credential from outside", "GET / HTTP/1.1\r\nhost: shut.localhost\r\nebb-credential: ebi_x\r\n\r\n", 401],
  ["an object's property as a workload", "GET / HTTP/1.1\r\nhost: constructor.localhost\r\n\r\n", 401],
  ["an object's prototype as a workload", "GET / HTTP/1.1\r\nhost: __proto__.localhost\r\n\r\n", 401],
  ["chunk extensions without end", `POST / HTTP/1.1\r\nhost: open.localhost\r\ntransfer-encoding: chunked\r\n\r\n1;${"a".repeat(40_000)}\r\nx\r\n0\r\n\r\n`, 413],
  ["trailers without end", `POST / HTTP/1.1\r\nhost: open.localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${`x: ${"a".repeat(1_000)}\r\n`.repeat(100)}\r\n`, 431],
]; // prettier-ignore
for (const [name, bytes, status] of heads)
  test(`${name} is ${status}`, async () => {
    assert.equal(await raw(bytes), status);
  });

for (const path of [
  "/api/v1/../v1/projects",
  "//api/v1/projects",
  "/api%2fv1/projects",
  "/%61pi/v1/projects",
  "/API/v1/projects",
  "/api/v1/projects/%00",
  "/api/v1/projects/default%2f..%2fother/workloads",
  "/healthz/../metrics",
  "/run/default/%73hut/",
  "/run/default/shut%2f",
  "/run//default/shut/",
  "/run/Default/shut/",
  "/run/default/open/../shut/",
  "/.//api/v1/projects",
  "/api/v1/projects/__proto__/workloads",
])
  // prettier-ignore
  test(`the path ${path} opens nothing`, async () => {
    const status = await raw(`GET ${path} HTTP/1.1\r\n${platform}\r\n`);
    // The one that names the open function is its own to read; it carries its path as it was sent.
    assert.ok([400, 401, 404].includes(status) || (status === 200 && path.startsWith("/run/default/open/")), String(status));
  });

test("a token authenticates in its own header, and nowhere else", async () => {
  const { token } = daemon;
  const shown: ReadonlyArray<Record<string, string>> = [
    { cookie: `ebb-session=${token}; token=${token}` },
    { "ebb-token": token },
    { "x-api-key": token },
    { authorization: `Basic ${Buffer.from(`admin:${token}`).toString("base64")}` },
    { "proxy-authorization": `Bearer ${token}` },
  ];
  for (const headers of shown) assert.equal((await daemon.fetch(null, "/api/v1/projects", { headers })).status, 401);
  assert.equal((await daemon.fetch(null, `/api/v1/projects?token=${token}&access_token=${token}`)).status, 401);
  for (const authorization of [
    `Bearer ${token}`,
    `bearer   ${token}`,
    token,
    `Basic ${Buffer.from(`u:${token}`).toString("base64")}`,
  ])
    assert.equal((await daemon.fetch("open.localhost", "/", { headers: { authorization } })).status, 401);
  const seen = await daemon.fetch("open.localhost", "/", {
    headers: { "ebb-token": token, cookie: `a=1; ebb-session=${token}; b=2`, "proxy-authorization": `Bearer ${token}` },
  });
  assert.equal(seen.status, 200);
  assert.ok(!seen.text.includes(token), seen.text);
});

test("a trailer is no header, and cannot turn the next request into another's", async () => {
  const body = "0\r\nebb-token: x\r\nhost: shut.localhost\r\n\r\n";
  const bytes = `POST / HTTP/1.1\r\nhost: open.localhost\r\ntransfer-encoding: chunked\r\n\r\n${body}`;
  const socket = connect(daemon.port, "127.0.0.1");
  let received = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (received += chunk));
  socket.on("error", () => {});
  socket.write(`${bytes}GET /next HTTP/1.1\r\nhost: shut.localhost\r\n\r\n`, "latin1");
  while ((received.match(/HTTP\/1\.1 \d{3} /g) ?? []).length < 2 && !socket.destroyed)
    await Promise.race([once(socket, "data"), once(socket, "close")]);
  socket.destroy();
  assert.deepEqual(
    [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1]),
    ["200", "401"],
  );
});

test("some hundred connections that say nothing, and as many that read nothing, keep nobody out", async () => {
  const sockets: Socket[] = [];
  for (let i = 0; i < 300; i++) {
    const socket = connect(daemon.port, "127.0.0.1");
    socket.on("error", () => {});
    sockets.push(socket);
    if (i % 2 === 0) socket.pause().write("GET / HTTP/1.1\r\nhost: open.localhost\r\n\r\n".repeat(4));
  }
  await Promise.all(sockets.filter((socket) => socket.connecting).map((socket) => once(socket, "connect")));
  const startedMs = performance.now();
  assert.equal((await daemon.fetch("open.localhost", "/")).status, 200);
  assert.ok(performance.now() - startedMs < 10_000);
  for (const socket of sockets) socket.destroy();
});

const archives: Readonly<Record<string, readonly RawEntry[]>> = {
  "a name that leads out": [code, { name: "../evil" }],
  "a name that leads out further in": [code, { name: "a/../../evil" }],
  "an absolute name": [code, { name: "/tmp/ebb-test-evil" }],
  "a link to an absolute path": [code, { name: "l", flag: "2", link: "/etc/shadow" }],
  "a link that leads out": [code, { name: "l", flag: "2", link: "../../../secrets.key" }],
  "a file through a link": [code, { name: "a", flag: "2", link: "." }, { name: "a/b", body: "x" }],
  "a hard link to the machine": [code, { name: "h", flag: "1", link: "/etc/shadow" }],
  "a hard link that leads out": [code, { name: "h", flag: "1", link: "../../secrets.key" }],
  "a device": [code, { name: "d", flag: "3" }],
  "a named pipe": [code, { name: "p", flag: "6" }],
  "a name twice": [code, code],
  "a circle of links": [code, { name: "a", flag: "2", link: "b" }, { name: "b", flag: "2", link: "a" }],
  "an app file that is a link": [code, { name: "ebb.yaml", flag: "2", link: "index.mjs" }],
  "a name of 64 KiB": [code, { name: "././@LongLink", flag: "L", body: `${"a".repeat(65_536)}\0` }, { name: "x" }],
};
for (const [name, entries] of Object.entries(archives))
  test(`an archive with ${name} is refused in words`, async () => {
    const answer = await deploy(archived(...entries));
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.text, /"code":"(invalid_archive|invalid_app)"/);
    assert.ok(!existsSync("/tmp/ebb-test-evil") && !existsSync(join(daemon.directory, "evil")));
  });

test("a bomb, a torn archive and something else are refused in words", async () => {
  for (const body of [
    gzipSync(Buffer.alloc(64 << 20), { level: 9 }),
    archived(code).subarray(0, 60),
    Buffer.from("hello"),
  ])
    assert.equal((await deploy(body)).status, 400);
  assert.equal((await deploy(Buffer.from("{}"), "name=victim", "application/json")).status, 400);
});

const appFiles: readonly string[] = [
  "functions: {a: {source: ../..}}", "functions: {a: {source: /etc}}", "functions: {a: {source: a/../../b}}", "functions: {../x: {source: .}}",
  "functions: {__proto__: {source: .}}", "project: ../x\nfunctions: {a: {source: .}}", "functions: {a: {source: ., privileged: true}}",
  "functions: {a: {source: ., handler: ../../x.y}}", "functions: {a: {source: ., env: {EBB_PROJECT: x}}}", "functions: {a: {source: ., secrets: [../x]}}",
  "functions: {a: {source: ., memoryMb: 1e999}}", "functions: {a: {source: ., timeoutSeconds: .inf}}", "!!js/function x", "[".repeat(100_000),
  "{a: ".repeat(50_000), "- ".repeat(100_000), "? ".repeat(50_000), "&a ".repeat(10_000), "a: b\n".repeat(100_000), "''".repeat(300_000),
  "a: &a [x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nfunctions: *c", 'functions: {a: {source: "x\\0y"}}', "\u0000", "\ufeff".repeat(1_000),
]; // prettier-ignore
for (const text of appFiles)
  test(`the app file ${JSON.stringify(text.slice(0, 50))} is refused with its line, and soon`, async () => {
    const before = mainThreadMs();
    const answer = await deploy(archived(code, { name: "ebb.yaml", body: text }), "");
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.text, /ebb\.yaml:\d+|ebb\.yaml/);
    assert.ok(mainThreadMs() - before < 5_000);
  });

for (const query of [
  "name=../x",
  `name=${"a".repeat(5_000)}`,
  "name=a%00b",
  "name=a&project=../..",
  "name=a&project=x&project=y",
  "name=a&name=b",
  "name=api",
  "name=a&env=%3Dx",
  "name=a&env=A%00B%3Dx",
  "name=a&env=EBB_X%3D1",
  "name=a&gitCommit=%1b%5b2J",
  "name=a&memoryMb=1e9",
  "name=a&isolation=none",
  "name=a&privileged=true",
  "name=a&prune=yes",
  `name=a${"&prune=x".repeat(201)}`,
  "folderName=../../x",
  "folderName=%1b%5b2J",
  "",
])
  // prettier-ignore
  test(`the options "${query.slice(0, 40)}" deploy nothing`, async () => {
    const answer = await deploy(archived(code), query);
    assert.ok(answer.status === 400 || answer.status === 422, `${answer.status} ${answer.text}`);
  });

test("no script of a package is ever run, and no tsconfig leads out of its sandbox", async () => {
  const mark = join(daemon.directory, "pwned");
  const scripts = Object.fromEntries(
    ["preinstall", "install", "postinstall", "prepare"].map((name) => [name, `touch ${mark}`]),
  );
  const typed: RawEntry = { name: "index.ts", body: "export default () => new Response('x' as string)" };
  const deployed = await deploy(
    archived(typed, { name: "package.json", body: JSON.stringify({ type: "module", scripts }) }),
  );
  assert.equal(deployed.status, 200, deployed.text);
  assert.ok(!existsSync(mark));
  const answer = await deploy(
    archived(typed, { name: "tsconfig.json", body: `{"extends":"${join(daemon.directory, "credentials.json")}"}` }),
  );
  assert.ok(!answer.text.includes(daemon.token), answer.text);
});

test("nothing that is refused drives the terminal of whoever reads of it", async () => {
  const escape = "\\x1b[2J\\x9b31m\\u202e";
  const refused = folderOf({ "index.mjs": `throw new Error("${escape}owned")` });
  made.push(refused);
  const deployed = await daemon.ebb(["deploy", refused, "--name", "loud"]);
  assert.equal(deployed.code, 1);
  await deploy(archived(code), "folderName=%1b%5b2J");
  const said = [
    deployed.stderr,
    ...(await Promise.all([["audit"], ["ls"], ["logs"]].map((args) => daemon.ebb(args)))).map(({ stdout }) => stdout),
  ];
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  for (const text of said) assert.doesNotMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
  assert.match(deployed.stderr, /owned/);
});
