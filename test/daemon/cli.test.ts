// The command line against a real ebb: what people and their scripts rely on, command by command.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { runInProcess } from "#cli/in-process.testing.ts";
import { installation } from "#config.ts";
import { eventually, folderOf, removeDirectory, runCommand, startDaemon, temporaryDirectory } from "./fixture.ts";
import type { CommandResult, Daemon } from "./fixture.ts";

let daemon: Daemon;
/** A home of its own: contexts of whoever runs the tests are left alone. */
const home = temporaryDirectory();
const folders: string[] = [home];

before(async () => {
  daemon = await startDaemon();
  const echo = `
export default async (request, env) => {
  const url = new URL(request.url);
  console.log("called " + url.pathname);
  if (url.pathname === "/fail") return new Response("no", { status: 503 });
  if (url.pathname === "/bytes") return new Response(new Uint8Array([255, 0, 254]));
  return Response.json({
    method: request.method, path: url.pathname + url.search, body: await request.text(),
    type: request.headers.get("content-type"), x: request.headers.get("x-a"), secret: process.env.KEY ?? null,
  });
};`;
  const yaml = "functions:\n  echo: { source: ./src }\n";
  const { code, stderr } = await daemon.ebb(["deploy", folder({ "ebb.yaml": yaml, "src/index.mjs": echo })]);
  assert.equal(code, 0, stderr);
});

after(async () => {
  await daemon?.stop();
  for (const one of [...folders, ...(daemon ? [daemon.directory] : [])]) removeDirectory(one);
});

function folder(files: Record<string, string>): string {
  const made = folderOf(files);
  folders.push(made);
  return made;
}

/** `invoke --data` is a body: the daemon is found by EBB_DATA. */
function invoke(args: readonly string[], stdin?: string): Promise<CommandResult> {
  return runInProcess(["invoke", ...args], { stdin, environment: { ...process.env, EBB_DATA: daemon.directory } });
}

/** As its users run it: a process of its own, whose exit code is its parent's to read. */
function invokeProcess(args: readonly string[], stdin: string): Promise<CommandResult> {
  return runCommand(["invoke", ...args], { stdin, env: { EBB_DATA: daemon.directory } });
}

interface Invoked {
  readonly id: string;
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly durationMs: number;
  readonly billedMs: number;
  readonly cold: boolean;
}

/** A command that runs on, what it has said, and waiting for words of it without asking again and again. */
function running(args: readonly string[]): {
  readonly child: ChildProcess;
  readonly said: (words: RegExp) => Promise<string>;
  readonly end: () => Promise<number | null>;
} {
  const child = spawn(join(installation, "ebb"), [...args, "--data", daemon.directory], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
      child.emit("said");
    });
  child.once("close", () => child.emit("said"));
  return {
    child,
    said: async (words) => {
      while (!words.test(output)) {
        if (child.exitCode !== null) assert.fail(`ebb ${args.join(" ")} ended before it said ${words}: ${output}`);
        await once(child, "said", { signal: AbortSignal.timeout(20_000) }).catch(() =>
          assert.fail(`ebb ${args.join(" ")} did not say ${words}: ${output}`),
        );
      }
      return output;
    },
    end: async () => {
      if (child.exitCode !== null) return child.exitCode;
      const closed = once(child, "close");
      child.kill("SIGINT");
      await closed;
      return child.exitCode;
    },
  };
}

function failsWith(result: CommandResult, code: number, words: RegExp): void {
  assert.equal(result.code, code, `${result.stdout}${result.stderr}`);
  assert.equal(result.stdout, "");
  assert.equal(result.stderr.trimEnd().split("\n").length, 1, result.stderr);
  assert.match(result.stderr, words);
}

test("invoke prints the answer, or with --json one value of INTERFACE's shape", async () => {
  const plain = await invoke(["echo", "--path", "/a?b=c", "--data", '{"n":1}', "-H", "x-a: b"]);
  assert.equal(plain.code, 0, plain.stderr);
  const sent = { method: "POST", path: "/a?b=c", body: '{"n":1}', type: "application/json", x: "b", secret: null };
  assert.deepEqual(JSON.parse(plain.stdout), sent);
  const { code, stdout, stderr } = await invokeProcess(
    ["echo", "--method", "PUT", "--file", "-", "--json"],
    "from stdin",
  );
  assert.deepEqual([code, stderr], [0, ""]);
  const answer = JSON.parse(stdout) as Invoked;
  assert.deepEqual(Object.keys(answer), ["id", "status", "headers", "body", "durationMs", "billedMs", "cold"]);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["ebb-invocation-id"], answer.id);
  assert.equal(answer.cold, false);
  assert.ok(answer.durationMs > 0 && answer.billedMs >= 1, stdout);
  const heard = JSON.parse(answer.body) as { method: string; body: string };
  assert.deepEqual([heard.method, heard.body], ["PUT", "from stdin"]);
});

test("invoke sends a file, keeps bytes as they are, and exits 1 from status 400 on", async () => {
  const file = join(folder({ "body.json": '{"from":"file"}' }), "body.json");
  const fromFile = await invoke(["echo", "--file", file]);
  assert.deepEqual(
    [fromFile.code, (JSON.parse(fromFile.stdout) as { body: string; type: string }).body],
    [0, '{"from":"file"}'],
  );
  const bytes = JSON.parse((await invoke(["echo", "--path", "/bytes", "--json"])).stdout) as Record<string, unknown>;
  assert.deepEqual([bytes["body"], bytes["bodyEncoding"]], [Buffer.from([255, 0, 254]).toString("base64"), "base64"]);
  const failed = await invokeProcess(["echo", "--path", "/fail", "--json"], "");
  assert.deepEqual([failed.code, (JSON.parse(failed.stdout) as Invoked).status], [1, 503]);
  assert.match(failed.stderr, /^echo answered 503 .*see: ebb logs echo --invocation \w+\n$/);
  const [, id = ""] = /--invocation (\w+)/.exec(failed.stderr) ?? [];
  await eventually("the failed call's line is in the log", async () =>
    (await daemon.ebb(["logs", "echo", "--invocation", id])).stdout.includes("called /fail"),
  );
  failsWith(await invoke(["echo", "--file", "/no/such/file"]), 1, /there is no file \/no\/such\/file/);
  const nobody = await invoke(["nobody"]);
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /nobody/);
});

test("logs -f prints what is written from now on, and ends well on Ctrl-C", async () => {
  const tail = running(["logs", "echo", "-f", "--json"]);
  try {
    // Something is there already, from the first call on: it follows once that has been printed.
    await daemon.fetch("echo.localhost", "/before", { headers: { "ebb-token": daemon.token } });
    await tail.said(/called \/before/);
    await daemon.fetch("echo.localhost", "/later", { headers: { "ebb-token": daemon.token } });
    const output = await tail.said(/called \/later/);
    assert.equal(output.match(/called \/later/g)?.length, 1, "told once");
    for (const line of output.trimEnd().split("\n")) {
      const { time, workload, invocation, stream, level, message } = JSON.parse(line) as Record<string, unknown>;
      assert.ok(!Number.isNaN(Date.parse(String(time))));
      assert.equal(workload, "echo");
      if (stream === "ebb") continue; // what ebb itself says of the workload: deployed, started, gone
      assert.deepEqual([stream, level], ["stdout", "info"]);
      assert.equal(typeof invocation, "string");
      assert.match(String(message), /^called /);
    }
  } finally {
    assert.equal(await tail.end(), 0);
  }
});

test("dev deploys, serves a change soon after it was saved, reads .env, tells what is refused, and tails", async () => {
  const source = (word: string): string =>
    `export default () => { console.log("${word} says " + process.env.LEVEL); return new Response("${word}"); };`;
  const path = folder({ "index.mjs": source("first"), ".env": "LEVEL=debug\n" });
  const dev = running(["dev", path, "--name", "watched", "--public"]);
  const answer = async (): Promise<string> => (await daemon.fetch("watched.localhost", "/")).text;
  try {
    await dev.said(/r1 \(new\)/);
    assert.equal(await answer(), "first");
    await dev.said(/first says debug/);
    const saved = performance.now();
    writeFileSync(join(path, "index.mjs"), source("second"));
    await dev.said(/r2 \(was r1\)/);
    const tookMs = performance.now() - saved;
    assert.equal(await answer(), "second");
    assert.ok(tookMs < 5_000, `a change was served after ${tookMs} ms`);
    writeFileSync(join(path, "index.mjs"), "export default () => ;\n");
    await dev.said(/watched: .*index\.mjs:1/);
    assert.equal(await answer(), "second", "what is refused changes nothing");
    writeFileSync(join(path, "index.mjs"), source("third"));
    await dev.said(/r3 \(was r2\)/);
    writeFileSync(join(path, ".env"), "LEVEL=loud\n");
    await dev.said(/r4 \(was r3\)/);
    assert.equal(await answer(), "third");
    await dev.said(/third says loud/);
  } finally {
    assert.equal(await dev.end(), 0);
  }
});

test("show, revisions and rollback tell and turn back; open prints the address even where there is no browser", async () => {
  const path = folder({ "index.mjs": "export default () => new Response('one');" });
  const deploy = ["deploy", path, "--name", "turned", "--public", "--memory", "128", "--env", "A=1"];
  assert.equal((await daemon.ebb(deploy)).code, 0);
  writeFileSync(join(path, "index.mjs"), "export default () => new Response('two');");
  const second = await daemon.json<{ results: Array<Record<string, unknown>>; seconds: number }>(deploy);
  assert.deepEqual([second.results[0]?.["revision"], second.results[0]?.["before"]], [2, 1]);
  const shown = (await daemon.ebb(["show", "turned"])).stdout;
  assert.match(shown, /memoryMb +128 +flag/);
  assert.match(shown, /timeoutSeconds +\d+ +default/);
  const revisions = await daemon.json<Array<{ revision: number; current: boolean }>>(["revisions", "turned"]);
  assert.deepEqual(
    revisions.map(({ revision, current }) => [revision, current]),
    [
      [2, true],
      [1, false],
    ],
  );
  assert.match((await daemon.ebb(["rollback", "turned"])).stdout, /serves r1 again/);
  assert.equal((await daemon.fetch("turned.localhost", "/")).text, "one");
  failsWith(await daemon.ebb(["rollback", "turned", "r9"]), 1, /r?9/);
  const data = ["--data", daemon.directory];
  const opened = await runCommand(["open", "turned", ...data], { env: { PATH: "/usr/bin:/bin", DISPLAY: "" } });
  assert.equal(opened.stdout, `http://turned.localhost:${daemon.port}\n`);
  const open = await daemon.json<{ url: string }>(["open", "turned"]);
  assert.deepEqual(open, { url: `http://turned.localhost:${daemon.port}` });
  assert.equal((await daemon.ebb(["rm", "turned"])).code, 0);
  failsWith(await daemon.ebb(["show", "turned"]), 1, /there is no workload "turned" in project "default"/);
});

test("secrets come from a file or stdin, reach the function, and are never shown", async () => {
  const path = folder({
    "secrets.env": 'export KEY="from file"\nOTHER=x # comment\n',
    "ebb.yaml": "functions:\n  keyed: { source: ./src, public: true, secrets: [KEY] }\n",
    "src/index.mjs": "export default () => new Response(process.env.KEY);",
  });
  failsWith(await daemon.ebb(["deploy", path]), 1, /keyed needs the secret KEY; set it: ebb secrets set KEY/);
  const set = await daemon.ebb(["secrets", "set", "--from-file", join(path, "secrets.env")]);
  assert.deepEqual([set.code, /from file/.test(set.stdout + set.stderr)], [0, false]);
  assert.equal((await daemon.ebb(["deploy", path])).code, 0);
  assert.equal((await daemon.fetch("keyed.localhost", "/")).text, "from file");
  assert.equal((await daemon.ebb(["secrets", "set", "KEY"], { stdin: "changed\n" })).code, 0);
  assert.equal((await daemon.fetch("keyed.localhost", "/")).text, "changed");
  const listed = await daemon.json<Array<{ name: string; version: number }>>(["secrets", "ls"]);
  assert.deepEqual(
    listed.map(({ name, version }) => [name, version]),
    [
      ["KEY", 2],
      ["OTHER", 1],
    ],
  );
  assert.ok(!JSON.stringify(listed).includes("changed"));
  assert.equal((await daemon.ebb(["secrets", "set", "KEY", "as-argument"])).code, 2);
});

test("usage and audit tell what was used and who did what", async () => {
  const usage = await daemon.json<{ rows: Array<{ workload: string; requests: number; gbSeconds: number }> }>([
    "usage",
  ]);
  const row = usage.rows.find(({ workload }) => workload === "echo");
  assert.ok(row && row.requests >= 5 && row.gbSeconds > 0, JSON.stringify(usage));
  const audit = await daemon.json<Array<{ command: string; target: string; outcome: string }>>(["audit"]);
  assert.ok(
    audit.some(({ command, outcome }) => /secret/.test(command) && outcome === "ok"),
    JSON.stringify(audit),
  );
  assert.match((await daemon.ebb(["usage", "--since", "1h"])).stdout, /echo/);
  assert.match((await daemon.ebb(["audit", "--limit", "2"])).stdout, /ok/);
});

test("every command that asks takes --json and prints one value, nothing else", async () => {
  const commands = [
    ["ls"],
    ["show", "echo"],
    ["open", "echo"],
    ["logs", "echo", "--limit", "1"],
    ["invocations", "echo"],
    ["usage"],
    ["revisions", "echo"],
    ["restart", "echo"],
    ["secrets", "ls"],
    ["tokens", "create", "ci", "--expires", "1d"],
    ["tokens", "ls"],
    ["token"],
    ["projects", "create", "photos"],
    ["projects", "set", "photos", "--memory", "512"],
    ["projects", "ls"],
    ["projects", "rm", "photos", "--yes"],
    ["audit"],
    ["doctor"],
  ];
  for (const command of commands) {
    const { stdout, stderr } = await daemon.ebb([...command, "--json"]);
    assert.equal(stdout.trimEnd().split("\n").length, 1, `${command.join(" ")}: ${stdout}${stderr}`);
    const value: unknown = JSON.parse(stdout);
    assert.equal(typeof value, "object", command.join(" "));
    // The machine may lack something that doctor looks for; then, and only then, it says so.
    if (command[0] !== "doctor") assert.equal(stderr, "", command.join(" "));
  }
});

test("wrong usage exits 2, a refusal 1, each with one clear line", async () => {
  const wrong: Array<[readonly string[], RegExp]> = [
    [["deplyo"], /did you mean "ebb deploy"/],
    [["ls", "--jsno"], /did you mean --json/],
    [["show"], /ebb show needs NAME/],
    [["logs", "--since", "yesterday"], /--since: expected 10m/],
    [["deploy", ".", "--public", "--private"], /not both/],
  ];
  for (const [args, words] of wrong) failsWith(await daemon.ebb(args), 2, words);
  failsWith(await runCommand(["up", "--listen", "nowhere"]), 2, /--listen: expected HOST:PORT/);
  failsWith(await daemon.ebb(["deploy", "/no/such/folder"]), 1, /there is nothing at \/no\/such\/folder/);
  failsWith(await daemon.ebb(["projects", "rm", "default"]), 1, /add --yes/);
});

test("what was removed from the app file is kept and named; deploy --prune removes it, asks first, and needs --yes where nobody can be asked", async () => {
  const app = (...names: string[]): string =>
    `project: pruned\nfunctions:\n${names.map((name) => `  ${name}: { source: ./src, public: true }\n`).join("")}`;
  const path = folder({ "ebb.yaml": app("a", "b"), "src/index.mjs": "export default () => new Response('x');" });
  assert.equal((await daemon.ebb(["projects", "create", "pruned"])).code, 0);
  assert.equal((await daemon.ebb(["deploy", path])).code, 0);
  writeFileSync(join(path, "ebb.yaml"), app("a"));
  const kept = await daemon.ebb(["deploy", path]);
  assert.match(kept.stdout + kept.stderr, /\bb\b/);
  assert.equal((await daemon.fetch("b--pruned.localhost", "/")).text, "x");
  failsWith(await daemon.ebb(["deploy", path, "--prune"]), 1, /--prune removes b from project pruned\..*add --yes/);
  assert.equal((await daemon.ebb(["show", "b", "--project", "pruned"])).code, 0);
  assert.match((await daemon.ebb(["deploy", path, "--prune", "--yes"])).stdout, /removed: b/);
  assert.equal((await daemon.ebb(["show", "b", "--project", "pruned"])).code, 1);
  // A stranger is not told which private names there are; who may ask is told that it is gone.
  assert.equal((await daemon.fetch("b--pruned.localhost", "/")).status, 401);
  const { token } = await daemon.json<{ token: string }>(["token", "--project", "pruned"]);
  assert.equal((await daemon.fetch("b--pruned.localhost", "/", { headers: { "ebb-token": token } })).status, 404);
  assert.equal((await daemon.ebb(["show", "echo"])).code, 0, "other projects are left alone");
});

test("a daemon elsewhere is found by EBB_URL and EBB_TOKEN, or by the context that login and use chose", async () => {
  const own = { ...process.env, HOME: home, XDG_CONFIG_HOME: "", EBB_DATA: "" };
  const url = daemon.url;
  const run = (args: readonly string[], environment: NodeJS.ProcessEnv = own, stdin = ""): Promise<CommandResult> =>
    runInProcess(args, { environment, stdin });
  const named = await run(["ls", "--json"], { ...own, EBB_URL: url, EBB_TOKEN: daemon.token });
  assert.equal(named.code, 0, named.stderr);
  failsWith(await run(["ls"], { ...own, EBB_URL: url }), 1, /EBB_URL is set, and EBB_TOKEN is not/);
  const refused = await run(["ls"], { ...own, EBB_URL: url, EBB_TOKEN: "ebb_wrong" });
  assert.equal(refused.code, 1);
  const login = ["login", url, "--name", "here"];
  assert.equal((await run(login, own, "ebb_wrong\n")).code, 1);
  const loggedIn = await run(login, own, `${daemon.token}\n`);
  assert.equal(loggedIn.code, 0, loggedIn.stderr);
  assert.equal(statSync(join(home, ".config/ebb/contexts.json")).mode & 0o777, 0o600);
  assert.match((await run(["ls"])).stdout, /echo/);
  assert.match((await run(["use"])).stdout, /\* +here/);
  failsWith(await run(["use", "heer"]), 1, /did you mean "here"/);
  assert.equal((await run(["use", "--none"])).code, 0);
  assert.equal((await run(["use", "here"])).code, 0);
});
