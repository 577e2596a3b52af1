// The life of functions on a real ebb: from zero, through deploys, failures and floods of requests, back to zero.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { WorkloadRow } from "#client/client.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";

let daemon: Daemon;
const folders: string[] = [];

/** Deployed together, and as few as show it, since each is loaded for it: name, settings, code. */
const functions: readonly (readonly [name: string, settings: string, code: string, file?: string])[] = [
  // What the broken ones are deployed over.
  ["unbroken", "", "export default () => new Response('still here');"],
  [
    "burst",
    "max: 4, memoryMb: 64",
    "enum Level { Low, High }\ninterface Q { level: Level }\n\nexport default async (request: Request): Promise<Response> => {\n  const q: Q = { level: Level.High };\n  if (request.url.endsWith('/throw')) throw new Error(`level ${q.level}`);\n  await new Promise(r => setTimeout(r, 20));\n  return new Response(String(process.pid));\n};\n",
    "index.ts",
  ],
  [
    "slow",
    "timeoutSeconds: 1",
    "export default (r) => new URL(r.url).pathname === '/hang' ? new Promise(() => {}) : new Response('fine');",
  ],
  ["hungry", "memoryMb: 64", "export default () => { const all = []; for (;;) all.push(Buffer.alloc(8e6, 1)); };"],
  [
    "moody",
    "secrets: [MODE], idleSeconds: 0",
    "if (process.env.MODE === 'bad') throw new Error('no such mode');\nexport default () => new Response('well');",
  ],
  [
    "chatty",
    "concurrency: 10, secrets: [DB_PASSWORD]",
    `const later = (ms) => new Promise((over) => setTimeout(over, ms));
export default async (r) => {
  const { pathname, searchParams } = new URL(r.url);
  if (pathname === '/secret') return new Response(process.env.DB_PASSWORD);
  if (pathname === '/recorded') return await later(30), new Response('x'.repeat(1000));
  const n = searchParams.get('n');
  console.log(\`first \${n}\`);
  await later(50);
  console.error(\`second \${n}\`);
  return new Response(n);
};`,
  ],
  [
    "plain",
    "",
    "require('node:http').createServer((q, s) => { s.setHeader('x-two', ['a', 'b']); s.end(q.method === 'HEAD' ? undefined : 'body'); }).listen(process.env.PORT);",
    "index.js",
  ],
];

before(async () => {
  daemon = await startDaemon({ args: ["--pool", "0"] });
  const set = await daemon.ebb(["secrets", "set", "DB_PASSWORD"], { stdin: "hunter2-original" });
  assert.equal(set.code, 0, set.stderr);
  await daemon.client.secrets.set("default", "MODE", "good");
  const files: Record<string, string> = {
    "ebb.yaml": `functions:\n${functions
      .map(([name, settings]) => `  ${name}: { source: ./${name}, public: true${settings && `, ${settings}`} }\n`)
      .join("")}`,
  };
  for (const [name, , code, file = "index.mjs"] of functions) files[`${name}/${file}`] = code;
  const { code, stdout, stderr } = await daemon.ebb(["deploy", folder(files)]);
  assert.equal(code, 0, stderr + stdout);
});

after(async () => {
  await daemon?.stop();
  for (const folder of [...folders, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
});

function folder(files: Record<string, string>): string {
  const made = folderOf(files);
  folders.push(made);
  return made;
}

async function deploy(name: string, files: Record<string, string>, ...args: string[]): Promise<string> {
  const result = await daemon.ebb(["deploy", folder(files), "--name", name, "--public", ...args]);
  assert.equal(result.code, 0, result.stderr + result.stdout);
  return result.stdout;
}

async function row(name: string): Promise<WorkloadRow> {
  const found = (await daemon.client.workloads.list("default")).find((candidate) => candidate.name === name);
  assert.ok(found, `${name} is not listed`);
  return found;
}

async function atZero(name: string): Promise<void> {
  await eventually(`${name} is at zero`, async () => (await row(name)).instances === 0);
}

test("a deployed function has no instance until a request comes, and none again after its idle time", async () => {
  assert.equal((await row("moody")).instances, 0);
  const answer = await daemon.fetch("moody.localhost", "/");
  assert.equal(answer.text, "well");
  await atZero("moody");
});

test("without memory for it there is no pool, and everything starts as it is called", async () => {
  const platform = async (path: string): Promise<string> =>
    (await daemon.fetch(null, path, { headers: { authorization: `Bearer ${daemon.token}` } })).text;
  assert.equal((await daemon.fetch("moody.localhost", "/")).text, "well");
  assert.equal((JSON.parse(await platform("/api/v1/status")) as { pool: { sandboxes: number } }).pool.sandboxes, 0);
  const metrics = await platform("/metrics");
  assert.equal(Number(/^ebb_instances_ahead_total (\d+)/m.exec(metrics)?.[1] ?? 0), 0);
});

test("the record of an invocation says what it was and what it cost", async () => {
  const answer = await daemon.fetch("chatty.localhost", "/recorded", { method: "POST", body: "12345" });
  const id = String(answer.headers["ebb-invocation-id"]);
  const [record] = await daemon.json<Array<Record<string, unknown>>>(["invocations", "chatty", "--limit", "1"]);
  assert.ok(record);
  assert.equal(record["id"], id);
  assert.equal(record["outcome"], "ok");
  assert.equal(record["status"], 200);
  assert.equal(record["cold"], true);
  assert.equal(record["memoryMb"], 256);
  assert.ok(Number(record["durationMs"]) >= 30, JSON.stringify(record));
  assert.ok(
    Number(record["billedMs"]) >= 30 && Number(record["billedMs"]) <= Number(record["durationMs"]) + 1.5,
    JSON.stringify(record),
  );
  assert.ok(Number(record["startMs"]) > 1);
  assert.ok(Number(record["cpuMs"]) > 0);
});

/** Name of the function to what is wrong, its files, and what is told of it. */
const broken: readonly (readonly [name: string, files: Record<string, string>, words: RegExp])[] = [
  // A syntax error.
  ["unbroken", { "index.mjs": "export default () => {\n  const x = ;\n};\n" }, /index\.mjs:2/],
  // A handler that is missing.
  ["missing", { "index.mjs": "export const nothing = 1;\n" }, /handler|export/i],
  // Code that throws at load.
  ["throws", { "index.mjs": "const a = 1;\n\nthrow new Error('no database');\n" }, /no database.*index\.mjs:3/s],
  // A package that is not there.
  [
    "package",
    { "index.mjs": "import sharp from 'sharp';\nexport default () => new Response(String(sharp));\n" },
    /cannot find package "sharp" \(index\.mjs:1\)/i,
  ],
  // A TypeScript syntax error.
  ["typescript", { "index.ts": "export default (): Response => {\n  const x: = 3;\n};\n" }, /index\.ts:2/],
  // A Python syntax error.
  ["python", { "handler.py": "def handle(event, context):\n    return {\n" }, /handler\.py:\d/],
];

test("what is broken refuses the deploy with the user's own error and line each, and the old revision goes on serving", async () => {
  const files: Record<string, string> = {
    "ebb.yaml": `functions:\n${broken.map(([name]) => `  ${name}: { source: ./${name}, public: true }\n`).join("")}`,
  };
  for (const [name, its] of broken) for (const [file, code] of Object.entries(its)) files[`${name}/${file}`] = code;
  const refused = await daemon.ebb(["deploy", folder(files)]);
  assert.equal(refused.code, 1);
  for (const [name, , words] of broken) {
    const told = new RegExp(`^${name}: .*(\\n    .*)*`, "m").exec(refused.stderr);
    assert.match(told?.[0] ?? `nothing of ${name} in ${refused.stderr}`, words, name);
  }
  assert.equal((await daemon.fetch("unbroken.localhost", "/")).text, "still here");
  const rows = await daemon.client.workloads.list("default");
  assert.equal(rows.find(({ name }) => name === "unbroken")?.revision, 1);
  for (const [name] of broken.slice(1)) assert.ok(!rows.some((one) => one.name === name), `${name} is there`);
});

test("a hundred requests at once to a function at zero are all answered, by not more instances than allowed", async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, () => daemon.fetch("burst.localhost", "/")));
  assert.deepEqual(
    answers.filter((answer) => answer.status !== 200).map((answer) => answer.text),
    [],
  );
  const instances = (await row("burst")).instances;
  assert.ok(instances >= 1 && instances <= 4, `${instances} instances`);
});

test("a TypeScript error at run time shows the user's own line", async () => {
  const answer = await daemon.fetch("burst.localhost", "/throw");
  assert.equal(answer.status, 500);
  assert.equal((JSON.parse(answer.text) as { code: string }).code, "function_error");
  await eventually("the stack is in the log", async () =>
    (await daemon.client.logs("default", { workload: "burst" })).some(({ message }) => message.includes("index.ts:6")),
  );
});

test("deploying the same twice changes nothing, something else makes a new revision: what is under way finishes on the old one, and none is lost; rollback brings it back", async () => {
  const code = (word: string): Record<string, string> => ({
    "index.js": `exports.handle = async () => { await new Promise(r => setTimeout(r, 100)); return { statusCode: 200, body: '${word}' }; };`,
  });
  assert.match(await deploy("switching", code("old")), /r1/);
  assert.match(await deploy("switching", code("old")), /r1.*unchanged/);
  await daemon.fetch("switching.localhost", "/");
  let running = true;
  const seen = new Set<string>();
  const client = async (): Promise<void> => {
    while (running) {
      const answer = await daemon.fetch("switching.localhost", "/");
      assert.equal(answer.status, 200, answer.text);
      seen.add(answer.text);
    }
  };
  const clients = [client(), client()];
  assert.match(await deploy("switching", code("new")), /r2 \(was r1\)/);
  await eventually("the new revision answers", async () => seen.has("new"));
  running = false;
  await Promise.all(clients);
  assert.deepEqual([...seen].toSorted(), ["new", "old"]);
  assert.equal((await daemon.fetch("switching.localhost", "/")).text, "new");
  const rolled = await daemon.ebb(["rollback", "switching"]);
  assert.equal(rolled.code, 0, rolled.stderr);
  assert.equal((await daemon.fetch("switching.localhost", "/")).text, "old");
});

test("a handler that does not answer in time gets its caller a 504, and the next call a new instance", async () => {
  const answer = await daemon.fetch("slow.localhost", "/hang");
  assert.equal(answer.status, 504, answer.text);
  assert.equal((await daemon.fetch("slow.localhost", "/")).text, "fine");
  const records = await daemon.client.workloads.invocations("default", "slow", { limit: 2 });
  assert.deepEqual(
    records.map((record) => record.outcome),
    ["ok", "timeout"],
  );
});

test("a function that eats its memory is named in the answer, and its neighbour does not feel it", async () => {
  const [answer, calm] = await Promise.all([
    daemon.fetch("hungry.localhost", "/"),
    daemon.fetch("unbroken.localhost", "/"),
  ]);
  assert.equal(answer.status, 502, answer.text);
  assert.match(answer.text, /out of memory: 64 MiB, peak \d+; raise memoryMb\./);
  assert.equal(calm.text, "still here");
  const [record] = await daemon.client.workloads.invocations("default", "hungry", { limit: 1 });
  assert.equal(record?.outcome, "memory");
});

test("a secret reaches the function and nothing else, and a new value replaces the instances", async () => {
  assert.equal((await daemon.fetch("chatty.localhost", "/secret")).text, "hunter2-original");
  const listed = await daemon.ebb(["secrets", "ls", "--json"]);
  assert.match(listed.stdout, /DB_PASSWORD/);
  assert.doesNotMatch(listed.stdout, /hunter2/);
  await daemon.ebb(["secrets", "set", "DB_PASSWORD"], { stdin: "hunter2-rotated" });
  await eventually(
    "the new value serves",
    async () => (await daemon.fetch("chatty.localhost", "/secret")).text === "hunter2-rotated",
  );
  assert.doesNotMatch(daemon.log(), /hunter2/);
});

test("a function that does not start any more says why in its answer, in ls and in show, until it is mended", async () => {
  const mode = (value: string): Promise<unknown> => daemon.client.secrets.set("default", "MODE", value);
  assert.equal((await daemon.fetch("moody.localhost", "/")).text, "well");
  await mode("bad");
  await atZero("moody");
  const answer = await daemon.fetch("moody.localhost", "/");
  assert.equal(answer.status, 502, answer.text);
  assert.match(answer.text, /"code":"start_failed".*no such mode/);
  await eventually("ls says that it goes on failing", async () => {
    await daemon.fetch("moody.localhost", "/");
    return (await row("moody")).state === "crash_loop";
  });
  assert.match((await daemon.ebb(["show", "moody"])).stdout, /last error \d+s ago: .*no such mode[^]*index\.mjs:1/);
  await mode("good");
  await eventually("it serves again", async () => (await daemon.fetch("moody.localhost", "/")).text === "well");
  assert.equal((await row("moody")).state, "ready");
});

test("each line of a log carries its invocation, above concurrency 1 too", async () => {
  const answers = await Promise.all(Array.from({ length: 6 }, (_, n) => daemon.fetch("chatty.localhost", `/?n=${n}`)));
  for (const [n, answer] of answers.entries()) {
    const invocation = String(answer.headers["ebb-invocation-id"]);
    const linesAre = (lines: readonly { message: string; invocation: string | null }[]): boolean =>
      lines.length === 2 &&
      lines.every((line, i) => line.message === `${["first", "second"][i]} ${n}` && line.invocation === invocation);
    await eventually(`the lines of ${n}`, async () =>
      linesAre(await daemon.client.logs("default", { workload: "chatty", invocation })),
    );
    if (n > 0) continue;
    const { stdout } = await daemon.ebb(["logs", "chatty", "--invocation", invocation, "--json"]);
    const told = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { message: string; invocation: string });
    assert.ok(linesAre(told), stdout);
  }
});

test("usage adds up what ran", async () => {
  const usage = await daemon.ebb(["usage"]);
  assert.equal(usage.code, 0, usage.stderr);
  assert.match(usage.stdout, /chatty/);
});

test("a server that listens by itself answers HEAD without a body and GET with it", async () => {
  const head = await daemon.fetch("plain.localhost", "/", { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(head.text, "");
  assert.equal((await daemon.fetch("plain.localhost", "/")).text, "body");
});
