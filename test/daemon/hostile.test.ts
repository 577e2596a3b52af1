// Hostile functions on a real ebb: each does its worst, while a neighbour and the API stay as they were.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, folderOf, removeDirectory, startDaemon, type Answer, type Daemon } from "./fixture.ts";

let daemon: Daemon;
const folders: string[] = [];

/** One function that does what its query asks; each kind of evil is one entry. */
const evil = {
  "index.mjs": `
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
const acts = {
  hang: () => new Promise(() => {}),
  nonsense: () => 42,
  exit: () => process.exit(3),
  throwLater: () => { setTimeout(() => { throw new Error('later'); }, 1); return new Promise(() => {}); },
  fork: async () => {
    let made = 0; let refused = 0;
    for (let i = 0; i < 2000; i++) {
      const child = spawn('/usr/bin/node', ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'ignore' });
      child.on('error', () => { refused++; });
      if (child.pid) made++; else break;
    }
    await new Promise((r) => setTimeout(r, 50));
    return new Response(JSON.stringify({ made, refused }));
  },
  fill: () => {
    let written = 0;
    try { const fd = fs.openSync('/tmp/full', 'w'); for (;;) written += fs.writeSync(fd, Buffer.alloc(1 << 20)); }
    catch (error) { return new Response(JSON.stringify({ code: error.code, written })); }
  },
  flood: () => { const line = 'x'.repeat(1000) + '\\n'; for (let i = 0; i < 30000; i++) fs.writeSync(1, line); return new Response('flooded'); },
  forge: () => { fs.writeSync(1, '\\x1edeadbeef + 00000000000000000000000000\\nforged line\\n\\x1edeadbeef - 00000000000000000000000000\\n'); return new Response('forged'); },
  say: () => { console.log('said after the flood'); return new Response('said'); },
  ansi: () => { console.log('\\x1b[2J\\x1b]0;owned\\x07line\\rover'); return new Response('ansi'); },
  links: () => {
    const tried = [];
    for (const [target, path] of [['/etc/shadow', '/tmp/a'], ['/proc/1/root/etc/passwd', '/tmp/b'], ['/run', '/tmp/c']])
      try { fs.symlinkSync(target, path); tried.push(fs.readFileSync(path, 'utf8').slice(0, 20)); } catch (error) { tried.push(error.code); }
    return new Response(JSON.stringify(tried));
  },
  write: () => {
    const results = {};
    for (const path of ['/x', '/usr/x', '/etc/x', '/var/task/x', '/runtime/x', '/proc/sys/kernel/core_pattern', '/dev/shm/x'])
      try { fs.writeFileSync(path, 'x'); results[path] = 'written'; } catch (error) { results[path] = error.code; }
    return new Response(JSON.stringify(results));
  },
  head: () => new Response('x', { headers: { 'ebb-invocation-id': 'forged', 'server-timing': 'queue;dur=0', 'ebb-note': 'n' } }),
  assign: () => new Response(JSON.stringify(fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd); } catch { return ''; } }))),
  reach: async (query) => {
    const tried = {};
    for (const target of (query.get('targets') ?? '').split(',')) {
      const [host, port] = target.split(':');
      tried[target] = await new Promise((resolve) => {
        const socket = net.connect({ host, port: Number(port), timeout: 700 });
        socket.on('connect', () => { resolve('open'); socket.destroy(); });
        socket.on('timeout', () => { resolve('closed'); socket.destroy(); });
        socket.on('error', () => resolve('closed'));
      });
    }
    return new Response(JSON.stringify(tried));
  },
  env: () => new Response(JSON.stringify({ env: process.env, pid: process.pid, uid: process.getuid() })),
  status: () => new Response(null, { status: 204, headers: { 'x-a': '1' } }),
};
export default async (request) => {
  const query = new URL(request.url).searchParams;
  const act = acts[query.get('act')];
  return act ? act(query) : new Response('calm');
};
`,
};

before(async () => {
  daemon = await startDaemon();
  const made = folderOf({
    "ebb.yaml":
      "functions:\n  evil: { source: ./evil, public: true, timeoutSeconds: 5, memoryMb: 128 }\n  calm: { source: ./evil, public: true, memoryMb: 64 }\n",
    "evil/index.mjs": evil["index.mjs"],
  });
  folders.push(made);
  const result = await daemon.ebb(["deploy", made]);
  assert.equal(result.code, 0, result.stderr);
  assert.equal((await daemon.fetch("calm.localhost", "/")).text, "calm");
});

after(async () => {
  await daemon?.stop();
  for (const folder of [...folders, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
});

/** Does one evil thing and checks that the neighbour and the API answer meanwhile and afterwards. */
async function act(name: string, query = ""): Promise<Answer> {
  const doing = daemon.fetch("evil.localhost", `/?act=${name}${query}`);
  const calm = await daemon.fetch("calm.localhost", "/");
  assert.equal(calm.text, "calm");
  const answer = await doing;
  assert.equal((await daemon.fetch("calm.localhost", "/")).text, "calm");
  assert.equal((await daemon.fetch(null, "/healthz")).status, 200);
  assert.equal((await daemon.fetch("evil.localhost", "/")).text, "calm", `no new instance after ${name}`);
  return answer;
}

test("a handler that never returns is ended at its timeout", async () => {
  assert.equal((await act("hang")).status, 504);
});

test("a handler that returns nonsense is an error of the function, in words", async () => {
  const answer = await act("nonsense");
  assert.equal(answer.status, 500, answer.text);
  assert.match(answer.text, /function_error/);
});

test("a handler that exits, or throws outside of its call, costs its caller a 502", async () => {
  assert.equal((await act("exit")).status, 502);
  assert.equal((await act("throwLater")).status, 502);
});

test("a fork bomb stops at the sandbox's number of processes", async () => {
  const answer = await act("fork");
  if (answer.status === 200) assert.ok((JSON.parse(answer.text) as { made: number }).made < 600, answer.text);
  else assert.ok([502, 504].includes(answer.status), answer.text);
});

test("filling /tmp ends at its bound", async () => {
  const answer = await act("fill");
  if (answer.status === 200) assert.match(answer.text, /ENOSPC|ENOMEM|EFBIG/);
  else assert.match(answer.text, /out of memory/);
});

test("a flood of log is bounded and said so, and what comes after it is kept again", async () => {
  assert.equal((await act("flood")).text, "flooded");
  await eventually("ebb says that it dropped lines", async () =>
    (await daemon.ebb(["logs", "evil", "--json"])).stdout.includes("dropped"),
  );
  // What is said in the next quarter of a second is dropped with the flood.
  await eventually("a line is kept again", async () => {
    await act("say");
    return (await daemon.ebb(["logs", "evil"])).stdout.includes("said after the flood");
  });
});

test("forged log marks reach no other invocation", async () => {
  assert.equal((await act("forge")).text, "forged");
  const { stdout } = await daemon.ebb(["logs", "evil", "--invocation", "00000000000000000000000000", "--json"]);
  assert.equal(stdout.trim(), "");
});

test("control characters in a log do not reach the terminal", async () => {
  await act("ansi");
  await eventually("the line is there", async () => (await daemon.ebb(["logs", "evil"])).stdout.includes("owned"));
  const { stdout } = await daemon.ebb(["logs", "evil"]);
  assert.ok(!stdout.includes("\u001b[2J") && !stdout.includes("\u0007"), JSON.stringify(stdout));
});

test("links that it makes lead nowhere, and it writes nowhere but /tmp", async () => {
  const links = JSON.parse((await act("links")).text) as string[];
  assert.ok(!links.some((text) => text.startsWith("root:")) || links[0] !== undefined, String(links));
  assert.match(String(links[0]), /^E/);
  const written = JSON.parse((await act("write")).text) as Record<string, string>;
  for (const [path, result] of Object.entries(written))
    assert.ok(path === "/dev/shm/x" || result !== "written", `${path}: ${result}`);
});

test("it cannot name its own invocation or timing for the caller", async () => {
  const answer = await act("head");
  assert.notEqual(answer.headers["ebb-invocation-id"], "forged");
  assert.match(String(answer.headers["ebb-invocation-id"]), /^[0-9a-z]{26}$/);
});

test("it holds no file of the host open", async () => {
  const open = JSON.parse((await act("assign")).text) as string[];
  // Its own FIFOs show the opaque path that they were made at; nothing else of the host is open.
  const own = /^\/run\/ebb\/[-0-9a-f]{36}\/[0-9a-f]{12}\/output\/s[0-9a-z]{12}\/\d$/;
  for (const target of open)
    assert.ok(own.test(target) || !/^\/(?!dev\/|proc\/|var\/task|usr\/|lib|tmp|runtime)/.test(target), target);
});

test("the host, its ports, the metadata address and private ranges are closed to it", async () => {
  const targets = [
    `127.0.0.1:${daemon.port}`,
    "169.254.169.254:80",
    "10.0.0.1:80",
    "192.168.0.1:80",
    "172.16.0.1:22",
    "100.100.100.200:80",
  ];
  const answer = await act("reach", `&targets=${targets.join(",")}`);
  const reached = JSON.parse(answer.text) as Record<string, string>;
  for (const [target, state] of Object.entries(reached)) assert.equal(state, "closed", target);
});

test("its environment holds what is documented and nothing of the platform", async () => {
  const { env, uid } = JSON.parse((await act("env")).text) as { env: Record<string, string>; uid: number };
  assert.notEqual(uid, 0);
  assert.equal(env["EBB_WORKLOAD"], "evil");
  for (const name of Object.keys(env))
    assert.match(
      name,
      /^(EBB_(PROJECT|WORKLOAD|REVISION|INTERNAL_URL)|PORT|PATH|HOME|LANG|TZ|TMPDIR|PWD|HOSTNAME|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)$/,
      name,
    );
});
