// The command line against the API over doubles: in the test's process, and where that is the point as its users run it.

/* oxlint-disable typescript/no-unsafe-type-assertion -- answers are JSON: what counts is asserted */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ApiWorld } from "#api/world.testing.ts";
import { createServer } from "#lib/http.ts";
import { deployLimits } from "#model/limits.ts";
import { createStage, jobCommands, nightly, type Stage } from "./stage.testing.ts";
import { commands } from "./table.ts";

let stage: Stage;
let world: ApiWorld;
let url: string;
let home: string;
let token: string;
let ebb: Stage["ebb"];
let json: Stage["json"];
let folder: Stage["folder"];

before(async () => {
  stage = await createStage();
  ({ world, url, home, token, ebb, json, folder } = stage);
});
after(() => stage.stop());

test("deploy sends the folder without what must stay, and says what it recognised and where it answers", async () => {
  const path = await folder("Hello App", {
    "index.js": "a",
    "lib/x.js": "x",
    ".env": "S=1",
    ".env.local": "S=2",
    ".git/HEAD": "ref",
    ".ebb/state": "1",
    ".ebbignore": "*.log\n/tmp/\n",
    "a.log": "no",
    "tmp/b": "no",
    "sub/.env": "no",
    empty: "",
  });
  await folder("outside", { "pkg/package.json": "{}", "pkg/main.js": "outside" });
  await mkdir(join(path, "node_modules"));
  await symlink("lib/x.js", join(path, "inside"));
  await symlink("../../outside/pkg", join(path, "node_modules/pkg"));
  await symlink("../outside", join(path, "elsewhere"));
  const { code, out, err } = await ebb(["deploy", path]);
  assert.equal(code, 0, err);
  assert.deepEqual(Object.keys(stage.sent).toSorted(), [
    "empty",
    "index.js",
    "inside",
    "lib/x.js",
    "node_modules/pkg/main.js",
    "node_modules/pkg/package.json",
  ]);
  assert.deepEqual([stage.sent["inside"], stage.sent["node_modules/pkg/main.js"]], ["-> lib/x.js", "outside"]);
  assert.match(err, /^elsewhere: left out, it is a link to .*outside, outside of/m);
  const [first, second] = out.split("\n");
  assert.match(first!, /^hello-app {2}node26 {2}index\.js \(default -> web\) {3}r1 \(new\)$/);
  assert.match(
    second!,
    /^ {2}http:\/\/hello-app\.localhost:8080 {3}private: curl -H "ebb-token: \$\(ebb token\)" http:\/\/hello-app\.localhost:8080 {3}\d+\.\d s$/,
  );
});

test("a deploy shows in a terminal what it is at until it is there, and with --json nothing of it", async (t) => {
  const path = await folder("slow", { "index.js": "1" });
  const gate = Promise.withResolvers<void>();
  t.after(() => gate.resolve());
  world.gate = gate.promise;
  const shown = await stage.inTerminal(["deploy", path], (text) => {
    if (text.includes("checking slow")) gate.resolve();
  });
  const rewritten = "\r\u001b[K";
  const lines = shown.split(rewritten);
  assert.ok(
    lines.some((line) => /^checking slow( … \d+ s)?$/.test(line)),
    shown,
  );
  assert.match(lines.at(-1)!, /^slow {2}node26 {2}index\.js \(default -> web\) {3}r1 \(new\)\r\n/, shown);
  const value = await stage.inTerminal(["deploy", path, "--json"]);
  assert.equal((JSON.parse(value) as { results: unknown[] }).results.length, 1);
  assert.equal((await ebb(["rm", "slow", "--yes"])).code, 0);
});

test("ls shows zero instances as asleep, and --json has INTERFACE's shape", async () => {
  const { out } = await ebb(["ls"]);
  assert.match(
    out,
    /^NAME +KIND +REV +STATE +UP +LAST +ERR\/1h +URL\nhello-app +function +r1 +asleep +0\/20 +\d+\w +0 +http:\/\/hello-app\.localhost:8080\n$/,
  );
  const rows = await json(["ls"]);
  assert.ok(Array.isArray(rows));
  assert.deepEqual(Object.keys(rows[0]).slice(0, 11), [
    "project",
    "kind",
    "name",
    "revision",
    "state",
    "isolation",
    "instances",
    "paused",
    "url",
    "pathUrl",
    "triggers",
  ]);
});

test("a refused deploy exits 1 with the author's own error first", async () => {
  world.loadFailures.set("broken", {
    fault: "function",
    message: "SyntaxError: Unexpected token (index.js:3)",
    stack: "/code/index.js:3\n  }",
    hint: null,
  });
  const path = await folder("bad", { "index.js": "broken" });
  const { code, out, err } = await ebb(["deploy", path]);
  assert.equal(code, 1);
  assert.equal(out, "");
  assert.equal(err.split("\n")[0], "bad: SyntaxError: Unexpected token (index.js:3)");
  assert.match(err, /\/code\/index\.js:3/);
});

test("what is wrong with ebb.yaml is found here, all of it, a line each, and nothing is sent", async () => {
  const path = await folder("wrong", {
    "ebb.yaml": "functions:\n  a: { memoryMB: 1, timeoutSeconds: lots }\nfunktions: {}\n",
  });
  stage.sent = {};
  const { code, out, err } = await ebb(["deploy", path]);
  assert.deepEqual([code, out, stage.sent], [1, "", {}]);
  const lines = err.trimEnd().split("\n");
  assert.ok(lines.length >= 3, err);
  for (const line of lines) assert.match(line, /^ebb\.yaml:[123]: /);
  assert.match(err, /memoryMB.*did you mean/);
  const old = await ebb(["deploy", await folder("old", { "ebb.yml": "functions: {}\n" })]);
  assert.deepEqual([old.code, old.err], [1, "ebb.yml is not read; call it ebb.yaml\n"]);
  const nameless = await ebb(["deploy", await folder("42", { "index.js": "1" })]);
  assert.match(nameless.err, /^"42" cannot name a function .*--name/);
});

test("deploy --prune names what will go, and needs --yes where nobody can be asked", async () => {
  const app = await folder("pruned", {
    "ebb.yaml": "project: pruned\nfunctions:\n  a: { source: ./a }\n  b: { source: ./b }\n",
    "a/index.js": "1",
    "b/index.js": "1",
  });
  assert.equal((await ebb(["projects", "create", "pruned"])).code, 0);
  assert.equal((await ebb(["deploy", app, "--prune"])).code, 0, "nothing goes, nothing is asked");
  await writeFile(join(app, "ebb.yaml"), "project: pruned\nfunctions:\n  a: { source: ./a }\n");
  stage.sent = {};
  const refused = await ebb(["deploy", app, "--prune"]);
  assert.deepEqual(
    [refused.code, refused.out, refused.err, stage.sent],
    [1, "", "--prune removes b from project pruned. Nobody can be asked here; add --yes\n", {}],
  );
  const kept = await ebb(["deploy", app]);
  assert.match(kept.out, /kept, though ebb\.yaml does not declare them: b/);
  const pruned = (await json(["deploy", app, "--prune", "--yes"])) as { removed: string[] };
  assert.deepEqual(pruned.removed, ["b"]);
  const plain = await ebb(["deploy", await folder("plain", { "index.js": "1" }), "--prune", "--yes"]);
  assert.deepEqual([plain.code, /there is no ebb\.yaml here/.test(plain.err)], [1, true]);
});

test("deploy --prune removes from the token's own project, and only what was there when it was agreed", async (t) => {
  assert.equal((await ebb(["projects", "create", "ours"])).code, 0);
  const { text } = await world.mint("deploy", "ours");
  const data = await folder("their-data", { "credentials.json": JSON.stringify({ url, token: text }) });
  const env = { EBB_DATA: data };
  const ours = async (name: string) => json(["deploy", await folder(name, { "index.js": "1" })], { env });
  await ours("former");
  const app = await folder("ours", { "ebb.yaml": "functions:\n  a: { source: ./a }\n", "a/index.js": "1" });
  const refused = await ebb(["deploy", app, "--prune"], { env });
  assert.match(refused.err, /^--prune removes former from project ours\./);
  const deploy = world.control.deploy.bind(world.control);
  t.after(() => (world.control.deploy = deploy));
  // While the deploy is on its way, somebody else's comes first.
  world.control.deploy = async (...given) => {
    world.control.deploy = deploy;
    await world.deploy({ "index.js": "1" }, { name: "late", project: "ours" });
    return deploy(...given);
  };
  const pruned = (await json(["deploy", app, "--prune", "--yes"], { env })) as { removed: string[]; kept: string[] };
  assert.deepEqual([pruned.removed, pruned.kept], [["former"], ["late"]]);
  const many = Array.from({ length: deployLimits.prunedAtOnce }, (_, i) => ({ name: `f${i}`, source: "." }));
  await world.deploy({ "ebb.yaml": JSON.stringify({ functions: many }), "index.js": "1" }, { project: "ours" });
  const all = await ebb(["deploy", app, "--prune", "--yes"], { env });
  assert.match(all.err, /^--prune would remove 201 workloads from project ours; a deploy removes at most 200\n$/);
});

test("invoke answers with the body, or with the record in one JSON value", async () => {
  const plain = await ebb(["invoke", "hello-app", "--path", "/a?b=c", "--data", '{"x":1}']);
  assert.equal(plain.code, 0, plain.err);
  assert.deepEqual(JSON.parse(plain.out), {
    method: "POST",
    path: "/a?b=c",
    body: '{"x":1}',
    type: "application/json",
  });
  const answer = await json(["invoke", "hello-app", "--method", "put", "-H", "x-a: b"]);
  assert.deepEqual(Object.keys(answer as object), [
    "id",
    "status",
    "headers",
    "body",
    "durationMs",
    "billedMs",
    "cold",
  ]);
  const { status, durationMs, billedMs, cold } = answer as Record<string, unknown>;
  assert.deepEqual([status, durationMs, billedMs, cold], [200, 12.5, 13, true]);
  const failed = await ebb(["invoke", "hello-app", "--path", "/fail"]);
  assert.equal(failed.code, 1);
  assert.match(failed.err, /^hello-app answered 500 .*see: ebb logs hello-app --invocation \w+\n$/);
});

test("show, revisions, rollback, restart, rm", async () => {
  const path = await folder("two", { "index.js": "1" });
  await ebb(["deploy", path, "--env", "A=1", "--memory", "512"]);
  await writeFile(join(path, "index.js"), "2");
  assert.match((await ebb(["deploy", path])).out, /r2 \(was r1\)/);
  assert.match((await ebb(["deploy", path])).out, /r2 \(unchanged\)/);
  assert.match((await ebb(["show", "two"])).out, /memoryMb +256 +default/);
  assert.match((await ebb(["revisions", "two"])).out, /r2 +serves/);
  assert.match((await ebb(["rollback", "two", "r1"])).out, /two serves r1 again/);
  assert.equal((await ebb(["restart", "two"])).code, 0);
  assert.equal((await ebb(["rm", "two"])).code, 0);
  const gone = await ebb(["show", "two"]);
  assert.deepEqual([gone.code, gone.err], [1, 'there is no workload "two" in project "default"\n']);
});

test("a secret comes from stdin or a file, never from an argument", async () => {
  assert.equal((await ebb(["secrets", "set", "KEY"], { input: "s3cret\n" })).code, 0);
  assert.equal(world.access.open(world.mirror.secret("default", "KEY")!), "s3cret");
  const path = join(home, "secrets.env");
  await writeFile(path, '# c\nexport A=1\nB="x\\ny"\nC=\'a # b\'\nD=plain # comment\nPEM="l1\nl2"\n');
  assert.equal((await ebb(["secrets", "set", "--from-file", path])).code, 0);
  const values = ["A", "B", "C", "D", "PEM"].map((name) => world.access.open(world.mirror.secret("default", name)!));
  assert.deepEqual(values, ["1", "x\ny", "a # b", "plain", "l1\nl2"]);
  assert.equal((await ebb(["secrets", "set", "KEY=value"])).code, 2);
  assert.equal((await ebb(["secrets", "set", "KEY", "value"])).code, 2);
  assert.equal((await ebb(["secrets", "set", "KEY"])).code, 1, "empty");
  assert.match((await ebb(["secrets", "ls"])).out, /^KEY +1/m);
  assert.equal((await ebb(["secrets", "rm", "KEY"])).code, 0);
});

test("tokens are made, listed and removed; token prints a short-lived one alone", async () => {
  const made = (await json(["tokens", "create", "ci", "--scope", "deploy", "--expires", "90d"])) as {
    id: string;
    token: string;
  };
  assert.equal(world.access.authenticate(made.token, Date.now())?.scope, "deploy");
  assert.match((await ebb(["tokens", "ls"])).out, /ci +default +deploy/);
  assert.equal((await ebb(["tokens", "rm", made.id])).code, 0);
  const { out } = await ebb(["token"]);
  assert.match(out, /^ebb_[\w-]{43}\n$/);
});

test("projects are made, bounded and removed, and removal asks", async () => {
  assert.equal((await ebb(["projects", "create", "photos"])).code, 0);
  assert.match((await ebb(["projects", "set", "photos", "--memory", "1024", "--rate", "5"])).out, /memoryMb 1024/);
  assert.match((await ebb(["projects", "set", "photos", "--rate", "none"])).out, /ratePerSecond -/);
  const asked = await ebb(["projects", "rm", "photos"]);
  assert.equal(asked.code, 1);
  assert.match(asked.err, /add --yes/);
  assert.equal((await ebb(["projects", "rm", "photos", "--yes"])).code, 0);
});

test("logs, invocations, usage and audit print tables, and one JSON value", async () => {
  world.lines.push({
    time: 0,
    workload: "hello-app",
    invocation: null,
    stream: "stdout",
    level: "info",
    message: "one \u001b[31mred",
  });
  assert.match((await ebb(["logs", "hello-app"])).out, /00:00:00\.000 hello-app ------ one/);
  assert.deepEqual(await json(["logs"]), {
    time: "1970-01-01T00:00:00.000Z",
    workload: "hello-app",
    invocation: null,
    stream: "stdout",
    level: "info",
    message: "one \u001b[31mred",
  });
  assert.match((await ebb(["invocations", "hello-app", "--limit", "1"])).out, /ok +200 +cold/);
  assert.equal((await ebb(["usage", "--since", "7d"])).code, 0);
  assert.match((await ebb(["audit", "--limit", "3"])).out, /ok|refused/);
});

test("logs -f prints what is written until it is stopped", async () => {
  const child = stage.start(["logs", "-f", "--json"]);
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk));
  while (world.followers.size === 0) await new Promise((resolve) => setImmediate(resolve));
  while (!out.includes("red")) await once(child.stdout, "data");
  for (const follower of world.followers)
    follower({ time: 1, workload: "hello-app", invocation: null, stream: "stdout", level: "info", message: "later" });
  while (!out.includes("later")) await once(child.stdout, "data");
  child.kill("SIGINT");
  await once(child, "close");
  assert.equal(child.exitCode, 0);
});

test("login keeps a token that works, privately; use chooses", async () => {
  const env = { EBB_DATA: "" };
  assert.equal((await ebb(["login", url, "--name", "here"], { input: "ebb_wrong\n", env })).code, 1);
  assert.equal((await ebb(["login", url, "--name", "here"], { input: `${token}\n`, env })).code, 0);
  const path = join(home, ".config", "ebb", "contexts.json");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal(JSON.parse(await readFile(path, "utf8")).current, "here");
  assert.equal((await ebb(["ls"], { env })).code, 0);
  assert.match((await ebb(["use", "hare"], { env })).err, /did you mean "here"/);
  assert.equal((await ebb(["use", "--none"], { env })).code, 0);
  assert.equal((await ebb(["ls"], { env: { EBB_DATA: "", EBB_URL: url, EBB_TOKEN: token } })).code, 0);
});

test("when there is no daemon, one line says so", async () => {
  const none = await ebb(["ls", "--data", join(home, "nowhere")]);
  assert.deepEqual([none.code, none.err.split("\n").length], [1, 2]);
  assert.match(none.err, /there is no ebb in .*nowhere; start one: ebb up --data/);
  // A port that was free a moment ago: nothing answers there.
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  const at = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
  closed.close();
  const refused = await ebb(["ls"], { env: { EBB_DATA: "", EBB_URL: at, EBB_TOKEN: "x" } });
  assert.deepEqual([refused.code, refused.err], [1, `nothing answers at ${at}; is ebb up? Start it with: ebb up\n`]);
});

test("wrong usage exits 2 and says what is right", async () => {
  const cases: Array<[string[], RegExp]> = [
    [["deplyo"], /did you mean "ebb deploy"\?/],
    [["secrets", "sett"], /did you mean "ebb secrets set"\?/],
    [["secrets"], /needs one of: set, ls, rm/],
    [["ls", "--jsno"], /did you mean --json\?/],
    [["show"], /ebb show needs NAME: ebb show NAME/],
    [["ls", "more"], /"more" is one too many/],
    [["invocations", "x", "--limit", "many"], /--limit: expected a whole number/],
    [["logs", "--since", "yesterday"], /--since: expected 10m/],
    [["deploy", "--public", "--private"], /not both/],
    [["deploy", "--memory"], /memory/],
    [["rollback", "x", "first"], /a revision such as r6/],
    [["up", "--isolation", "maybe"], /expected container or none/],
  ];
  for (const [argv, words] of cases) {
    const { code, out, err } = await ebb(argv);
    assert.equal(code, 2, `${argv.join(" ")}: ${err}`);
    assert.equal(out, "");
    assert.match(err, words);
    assert.equal(err.trimEnd().split("\n").length, 1, err);
  }
  assert.equal((await ebb([])).code, 2);
});

test("help comes from the table", async () => {
  const all = await ebb(["--help"]);
  assert.equal(all.code, 0);
  for (const name of ["deploy", "secrets set", "tokens create", "doctor"]) assert.ok(all.out.includes(name));
  const one = await ebb(["secrets", "set", "--help"]);
  assert.match(one.out, /^Usage: ebb secrets set \[NAME\]/);
  assert.match((await ebb(["help", "logs"])).out, /-f, --follow/);
  assert.match((await ebb(["--version"])).out, /^\d+\.\d+\.\d+\n$/);
});

/** One call a command; `up`, `start` and `dev` go on until they are stopped, and are the daemon's tests' and dev's own. */
const oneValueEach: ReadonlyArray<readonly [name: string, ...argv: string[]]> = [
  ["projects create", "json"],
  ["projects ls"],
  ["projects set", "json", "--memory", "512"],
  ["deploy", "HOME/json/one", "--project", "json"],
  ["ls", "--project", "json"],
  ["show", "one", "--project", "json"],
  ["open", "one", "--project", "json"],
  ["invoke", "one", "--project", "json"],
  ["logs", "hello-app", "--limit", "1"],
  ["invocations", "one", "--project", "json"],
  ["usage"],
  ["revisions", "one", "--project", "json"],
  ["rollback", "one", "--project", "json"],
  ["restart", "one", "--project", "json"],
  ["rm", "one", "--project", "json"],
  ...jobCommands,
  ["secrets set", "KEY"],
  ["secrets ls"],
  ["secrets rm", "KEY"],
  ["tokens create", "listed"],
  ["tokens ls"],
  ["tokens rm", "ID"],
  ["token"],
  ["projects rm", "json", "--yes"],
  ["audit"],
  ["login", "URL", "--name", "json"],
  ["use", "json"],
  ["doctor"],
];

test("every command takes --json and prints one value, nothing else", async () => {
  const endless = ["up", "start", "dev"];
  const tried = oneValueEach.map(([name]) => name);
  assert.deepEqual(commands.map(({ name }) => name).toSorted(), [...endless, ...tried].toSorted());
  const path = await folder("json/one", { "index.js": "1" });
  let id = "";
  for (const [name, ...given] of oneValueEach) {
    if (name === "rollback") await ebb(["deploy", await folder("json/one", { "index.js": "2" }), "--project", "json"]);
    if (name === "jobs run") await world.deploy(nightly, { project: "json" });
    const argv = given.map((word) => ({ "HOME/json/one": path, ID: id, URL: url })[word] ?? word);
    const said = await ebb([...name.split(" "), ...argv, "--json"], { input: name === "login" ? token : "value" });
    const label = `ebb ${name}: ${said.out}${said.err}`;
    assert.equal(said.out.trimEnd().split("\n").length, 1, label);
    const value: unknown = JSON.parse(said.out);
    assert.ok(typeof value === "object" && value !== null, label);
    // The machine may lack something that doctor looks for; then, and only then, it says so.
    if (name !== "doctor") assert.deepEqual([said.code, said.err], [0, ""], label);
    if (name === "tokens create" || name === "jobs run") ({ id } = value as { id: string });
  }
  assert.equal((await ebb(["use", "--none"])).code, 0);
});

test("doctor says for each thing what it found, in one JSON value", async () => {
  const { out } = await ebb(["doctor", "--json"]);
  const findings: unknown = JSON.parse(out);
  assert.ok(Array.isArray(findings));
  assert.ok(findings.some(({ what, verdict }) => what === "node 26" && verdict === "there"));
});
