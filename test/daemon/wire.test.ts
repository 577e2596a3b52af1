// Hostile on the wire: programs whose answers are no HTTP, or too much of it, and code that misbehaves while it is loaded.

import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";

const made: string[] = [];
let daemon: Daemon;

/** Chunks of one byte, in one body. */
const crumbs = 200_000;

/** Speaks bytes: what follows the path's slash chooses which. */
const program = `#!/usr/bin/node
import { createServer } from "node:net";
const ok = "HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok";
const says = {
  plain: ok,
  extra: ok + "HTTP/1.1 200 OK\\r\\ncontent-length: 6\\r\\n\\r\\nstolen",
  interim: "HTTP/1.1 103 Early\\r\\n\\r\\n".repeat(100) + ok,
  head: "HTTP/1.1 200 OK\\r\\nx: " + "a".repeat(1 << 20) + "\\r\\n\\r\\n",
  many: "HTTP/1.1 200 OK\\r\\n" + "x: y\\r\\n".repeat(1000) + "\\r\\n",
  lf: "HTTP/1.1 200 OK\\ncontent-length: 2\\n\\nok",
  both: "HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
  lengths: "HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\ncontent-length: 3\\r\\n\\r\\nok",
  switch: "HTTP/1.1 101 Switching\\r\\nupgrade: websocket\\r\\nconnection: upgrade\\r\\n\\r\\nGET /api HTTP/1.1\\r\\n\\r\\n",
  nonsense: "\\0\\xff".repeat(1000) + "\\r\\n\\r\\n",
  split: "HTTP/1.1 200 OK\\r\\nx: a\\rset-cookie: b=1\\r\\ncontent-length: 2\\r\\n\\r\\nok",
  shared: "HTTP/1.1 200 OK\\r\\nset-cookie: a=1; Domain=%6Cocalhost\\r\\nset-cookie: b=1; Domain=localhost\\r\\nclear-site-data: \\"*\\"\\r\\nstrict-transport-security: max-age=1; includeSubDomains\\r\\nnel: {}\\r\\nreport-to: {}\\r\\nebb-invocation-id: forged\\r\\nebb-done: 1\\r\\ncontent-length: 2\\r\\n\\r\\nok",
};
const crumbs = "1\\r\\na\\r\\n".repeat(${crumbs});
createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (data) => {
    const what = / \\/(\\w+)/.exec(data.toString("latin1"))?.[1];
    if (what === "late") { socket.write(ok); setTimeout(() => socket.write("HTTP/1.1 200 OK\\r\\ncontent-length: 6\\r\\n\\r\\nstolen"), 30); }
    else if (what === "crumbs") {
      socket.end("HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n" + crumbs + "0\\r\\n\\r\\n");
    } else socket.write(says[what] ?? ok, "latin1");
  });
}).listen(process.env.PORT);
`;

before(async () => {
  daemon = await startDaemon();
  const app = folderOf({
    "ebb.yaml":
      "functions:\n  wire: { source: ./wire, runtime: custom, command: [./run.mjs], public: true, memoryMb: 128, concurrency: 50, max: 1 }\n  calm: { source: ./calm, public: true, memoryMb: 64, concurrency: 50, max: 1 }\n",
    "wire/run.mjs": program,
    "calm/index.mjs": "export default async (r) => new Response(`calm ${(await r.text()).length}`)",
  });
  made.push(app);
  chmodSync(join(app, "wire/run.mjs"), 0o755);
  const deployed = await daemon.ebb(["deploy", app]);
  assert.equal(deployed.code, 0, deployed.stderr);
});
after(async () => {
  await daemon?.stop();
  for (const folder of [...made, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
});

for (const what of ["interim", "head", "many", "lf", "both", "lengths", "switch", "nonsense", "split"])
  test(`an answer that is no HTTP (${what}) is a 502 in words, and nothing of it goes out`, async () => {
    const answer = await daemon.fetch("wire.localhost", `/${what}`);
    assert.equal(answer.status, 502, answer.text);
    assert.match(answer.text, /"code":"bad_response"/);
    assert.equal(answer.headers["set-cookie"], undefined);
    assert.equal((await daemon.fetch("wire.localhost", "/plain")).text, "ok");
  });

test("bytes behind an answer, at once or late, reach nobody but callers of the same workload", async () => {
  for (let i = 0; i < 5; i++) {
    // What it does to its own next caller is its own affair: they share a connection.
    await Promise.all(
      ["/extra", "/late", "/plain"].map((path) => daemon.fetch("wire.localhost", path).catch(() => null)),
    );
    for (let n = 0; n < 4; n++) {
      assert.equal((await daemon.fetch("calm.localhost", "/")).text, "calm 0");
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  assert.equal((await daemon.fetch("wire.localhost", "/plain")).text, "ok");
});

test("on a shared host a workload speaks for itself alone, and nowhere for ebb", async () => {
  const own = await daemon.fetch("wire.localhost", "/shared");
  assert.deepEqual(own.headers["set-cookie"], ["a=1", "b=1"]);
  assert.match(String(own.headers["ebb-invocation-id"]), /^[0-9a-z]{26}$/);
  assert.equal(own.headers["ebb-done"], undefined);
  const shared = await daemon.fetch(null, "/run/default/wire/shared");
  assert.equal(shared.text, "ok");
  for (const name of ["set-cookie", "clear-site-data", "strict-transport-security", "nel", "report-to"])
    assert.equal(shared.headers[name], undefined, name);
  assert.match(String(shared.headers["content-security-policy"]), /^sandbox /);
});

/** Hundreds of them; where crumbs are taken as they come it is three. */
const enough = 21;

/** How many calls of a neighbour, one after the other, are answered while this goes on; not asked again after enough of them. */
async function answersBeside(during: Promise<unknown>): Promise<number> {
  let over = false;
  const ended = during.finally(() => (over = true));
  let answers = 0;
  for (; !over && answers < enough; answers++) assert.equal((await daemon.fetch("calm.localhost", "/")).text, "calm 0");
  await ended;
  return answers;
}

test("an answer in crumbs, and a request in crumbs, leave the main thread to the others", async () => {
  const answer = async (): Promise<void> =>
    assert.equal((await daemon.fetch("wire.localhost", "/crumbs")).text.length, crumbs);
  const request = async (): Promise<void> => {
    const socket = connect(daemon.port, "127.0.0.1");
    const head = "POST / HTTP/1.1\r\nhost: calm.localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write(`${head}${"1\r\na\r\n".repeat(crumbs)}0\r\n\r\n`);
    assert.match(await text(socket), new RegExp(`calm ${crumbs}`));
  };
  for (const body of [answer, request]) {
    assert.equal(await answersBeside(body()), enough, body.name);
  }
});

const speaks = (words: string): string => `import fs from "node:fs";
for (const fd of fs.readdirSync("/proc/self/fd").map(Number)) try {
  if (fd > 3 && fs.readlinkSync("/proc/self/fd/" + fd).startsWith("socket")) { const line = ${words}; fs.writeSync(fd, Buffer.byteLength(line).toString(16) + "\\r\\n" + line + "\\r\\n"); }
} catch {}
export default () => new Response("x");`;
// What is forked is held before it boots: there are as many of them, and the test's machine has less to do.
const loads: Readonly<Record<string, string>> = {
  "ends the process with 0": "process.exit(0);",
  "ends the process with 3": "process.exit(3);",
  "throws what is no error": "throw null;",
  "forks until it cannot": `import { spawn } from "node:child_process"; for (let i = 0; i < 600; i++) spawn("/usr/bin/node", ["-e", "setTimeout(() => {}, 1e6)"], { detached: true, stdio: "ignore" }).on("error", () => {}).kill("SIGSTOP"); await new Promise((r) => setTimeout(r, 300)); throw new Error("enough");`,
  "prints 25 MB": `import fs from "node:fs"; const line = "x".repeat(65535) + "\\n"; for (let i = 0; i < 400; i++) fs.writeSync(1, line); throw new Error("enough");`,
  "answers the daemon with nonsense": speaks(`"nonsense\\n"`),
  "answers the daemon with an unknown shape": speaks(`'{"ready":{"signature":"__proto__","done":"told"}}\\n'`),
  "answers the daemon with a terminal's commands": speaks(
    `'{"ready":{"entry":"\\\\u001b[2J","handler":null,"signature":"web","done":"told"}}\\n'`,
  ),
  "answers the daemon with a line without end": speaks(`"a".repeat(1 << 20)`),
};
for (const [what, code] of Object.entries(loads))
  test(`code that ${what} while it is loaded is refused, and what serves goes on`, async () => {
    const folder = folderOf({ "index.mjs": code });
    made.push(folder);
    const result = await daemon.ebb(["deploy", folder, "--name", "loaded"]);
    assert.equal(result.code, 1, result.stdout);
    assert.match(result.stderr, /^loaded: /);
    assert.equal((await daemon.fetch("calm.localhost", "/")).status, 200);
    assert.deepEqual((await daemon.json<Array<{ name: string }>>(["ls"])).map(({ name }) => name).toSorted(), [
      "calm",
      "wire",
    ]);
  });
