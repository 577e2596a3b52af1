// Allow-lists from `ebb deploy` to the packet, in every kind of runtime, and examples/notes with a real PostgreSQL behind one. On a machine
// of its own (a network namespace) whose world is another: nothing here leaves them.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, layerOf, writeLayout } from "#images/images.testing.ts";
import { cannotRun, insideMachine, startWorld, stopChild, world } from "#network/testing/machine.ts";
import {
  eventually,
  folderOf,
  launcherAsking,
  removeDirectory,
  startDaemon,
  temporaryDirectory,
  type Daemon,
} from "./fixture.ts";
import { install } from "./node-image.ts";
import { cannotServe, startDatabase, type Database } from "./postgresql.ts";

/** Connects to each HOST:PORT that it is sent; answers "open", or the code of the error. */
const node = `import { connect } from "node:net";
const attempt = (target) => new Promise((resolve) => {
  const [host, port] = target.split(":");
  const socket = connect({ host, port: Number(port) });
  socket.on("connect", () => (socket.destroy(), resolve("open")));
  socket.on("error", (error) => resolve(error.code));
});
export async function POST(request) {
  return Response.json(await Promise.all((await request.json()).map(attempt)));
}
`;
const attempts = `import errno, json, os, socket
from concurrent.futures import ThreadPoolExecutor
def attempt(target):
    host, port = target.split(":")
    try:
        socket.create_connection((host, int(port))).close()
        return "open"
    except socket.gaierror:
        return "ENOTFOUND"
    except OSError as error:
        return errno.errorcode[error.errno]
def attempts(body):
    with ThreadPoolExecutor(20) as pool:
        return json.dumps(list(pool.map(attempt, json.loads(body))))
`;
const python = `${attempts}
def handle(event, context):
    return {"statusCode": 200, "body": attempts(event["body"])}
`;
const program = `#!/usr/bin/python3
${attempts}
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = attempts(self.rfile.read(int(self.headers["content-length"]))).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
`;
/** Static programs have no resolver of their own; nslookup is one. */
const reachScript = `#!/bin/sh
printf 'content-type: text/plain\\r\\n\\r\\n'
host=\${QUERY_STRING%:*} port=\${QUERY_STRING#*:}
case $host in *[a-z]*) host=$(nslookup -type=a $host | awk '/^Address: [0-9.]+$/ { print $2 }' | tail -n 1) ;; esac
[ -n "$host" ] || { echo unknown; exit; }
if nc -w 5 $host $port </dev/null >/dev/null 2>&1; then echo open; else echo closed; fi
`;
const noImages =
  ["/usr/bin/skopeo", "/bin/busybox"].map((path) => (existsSync(path) ? null : `no ${path}`)).find(Boolean) ?? false;
const kinds = ["node", "python", "program"] as const;

function suite(): void {
  const made: string[] = [];
  let others: ChildProcess;
  let database: Database;
  let daemon: Daemon;

  before(async () => {
    others = await startWorld();
    database = await startDatabase("notes");
    const asking = launcherAsking(world.public);
    made.push(dirname(asking));
    daemon = await startDaemon({ launcher: asking });
  });
  after(async () => {
    await daemon?.stop();
    await database?.stop();
    if (others) await stopChild(others);
    for (const folder of [...made, ...(daemon ? [daemon.directory] : [])]) removeDirectory(folder);
  });

  /** Of few refusals: after the first the kernel may say one a second. */
  const reach = async (name: string, ...targets: readonly string[]): Promise<readonly string[]> => {
    const body = JSON.stringify(targets);
    const answer = await daemon.fetch(`${name}.localhost`, "/", { method: "POST", body });
    assert.equal(answer.status, 200, answer.text);
    return JSON.parse(answer.text) as readonly string[];
  };
  const allAre = (result: string, found: readonly string[]): void =>
    assert.deepEqual(
      found,
      found.map(() => result),
    );
  const permit = async (permits: string): Promise<void> => {
    const set = await daemon.ebb(["projects", "set", "default", "--egress-permit", permits]);
    assert.equal(set.code, 0, set.stderr);
  };

  test("a list that names a private address is refused until the operator permits it", async () => {
    const list = "[www.example.com:443, 10.0.0.5:80, db.internal:8080]";
    const app = folderOf({
      "ebb.yaml": `functions:
  node: { source: ./node, public: true, memoryMb: 64, egress: ${list} }
  python: { source: ./python, public: true, memoryMb: 64, egress: ${list} }
  program: { source: ./program, runtime: custom, command: [./run.py], public: true, memoryMb: 64, egress: ${list} }
  other: { source: ./node, public: true, memoryMb: 64, egress: [short.example.com:443] }
`,
      "node/index.mjs": node,
      "python/main.py": python,
      "program/run.py": program,
    });
    made.push(app);
    chmodSync(join(app, "program/run.py"), 0o755);
    const refused = await daemon.ebb(["deploy", app]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /10\.0\.0\.5 is not public, and not permitted to project "default"; ask the operator for: ebb projects set default --egress-permit 10\.0\.0\.5:80;/,
    );
    await permit("10.0.0.0/24");
    const deployed = await daemon.ebb(["deploy", app]);
    assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
    assert.match((await daemon.ebb(["projects", "ls"])).stdout, /EGRESS PERMIT\n.* 10\.0\.0\.0\/24\n/);
    const shown = await daemon.client.workloads.show("default", "node");
    assert.deepEqual(shown.settings["egress"], {
      value: ["www.example.com:443", "10.0.0.5:80", "db.internal:8080"],
      source: "app file",
    });
    const rows = await daemon.json<Array<{ command: string; detail: string }>>(["audit", "--all"]);
    assert.ok(rows.some((row) => row.command === "projects set" && row.detail.includes("egressPermit 10.0.0.0/24")));
  });

  test("in every kind of runtime what the list names is open at its port, and nothing else", async () => {
    await Promise.all(kinds.map(reachesItsList));
  });

  async function reachesItsList(kind: string): Promise<void> {
    // before its name was asked for
    allAre("EHOSTUNREACH", await reach(kind, `${world.public}:443`));
    allAre("open", await reach(kind, "www.example.com:443", `${world.private}:80`, "db.internal:8080"));
    allAre("open", await reach(kind, `${world.public}:443`));
    const closed = ["www.example.com:80", "20.0.0.11:443", `${world.private}:5432`, `${world.metadata}:80`];
    allAre("EHOSTUNREACH", await reach(kind, ...closed));
    allAre("ENOTFOUND", await reach(kind, "short.example.com:443", "rebind.example.com:443"));
    const withheld = "egress: short.example.com is withheld: it is not in the egress list";
    await eventually(`the log of ${kind} says what was withheld`, async () => {
      const lines = await daemon.client.logs("default", { workload: kind });
      return lines.some((line) => line.message === withheld);
    });
  }

  test("functions with different lists share nothing that was opened", async () => {
    allAre("open", await reach("other", "short.example.com:443"));
    allAre("EHOSTUNREACH", await reach("other", `${world.public}:443`));
    allAre("EHOSTUNREACH", await reach("node", "20.0.0.11:443"));
  });

  test("a container's list holds as a function's does", { skip: noImages }, async () => {
    const app = folderOf({
      "ebb.yaml":
        'containers:\n  image: { image: ./image, public: true, memoryMb: 64, egress: ["www.example.com:443", "10.0.0.5:80"] }\n',
    });
    made.push(app);
    const applets = ["sh", "httpd", "nc", "nslookup", "awk", "tail"];
    const layer = await layerOf([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      ...applets.map((name) => ({ name: `bin/${name}`, type: "symlink" as const, linkname: "busybox" })),
      { name: "srv/cgi-bin/reach", mode: 0o755, content: reachScript },
      { name: "entry", mode: 0o755, content: "#!/bin/sh\nexec httpd -f -p $PORT -h /srv\n" },
    ]);
    writeLayout(join(app, "image"), imageOf([layer], { config: { Entrypoint: ["/entry"] } }));
    const deployed = await daemon.ebb(["deploy", app]);
    assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
    const reaches = async (target: string): Promise<string> =>
      (await daemon.fetch("image.localhost", `/cgi-bin/reach?${target}`)).text.trim();
    for (const [target, result] of [
      [`${world.public}:443`, "closed"],
      ["www.example.com:443", "open"],
      [`${world.public}:443`, "open"],
      [`${world.private}:80`, "open"],
      ["www.example.com:80", "closed"],
      ["short.example.com:443", "unknown"],
    ] as const)
      assert.equal(await reaches(target), result, target);
  });

  test("notes keeps what it is sent in a PostgreSQL that it reaches by its list", async () => {
    const folder = temporaryDirectory();
    made.push(folder);
    cpSync(join(installation, "examples/notes"), folder, { recursive: true });
    install(folder);
    await daemon.client.secrets.set("default", "DATABASE_URL", database.url());
    const deployed = await daemon.ebb(["deploy", folder]);
    assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
    const said = ["first", "second"];
    for (const body of said) {
      const answer = await daemon.fetch("notes.localhost", "/", { method: "POST", body });
      assert.equal(answer.status, 201, `${answer.text}${(await daemon.ebb(["logs", "notes"])).stdout}`);
    }
    assert.equal((await daemon.fetch("notes.localhost", "/1", { method: "DELETE" })).status, 204);
    const listed = await daemon.fetch("notes.localhost", "/");
    assert.deepEqual(JSON.parse(listed.text), [{ id: 2, text: "second" }]);
    assert.equal((await database.sql("select id || ' ' || text from notes")).trim(), "2 second");
  });

  test("container-api's service keeps its links in that PostgreSQL, and ends when it is told to; in its image: container-api.soak.ts", async () => {
    const folder = temporaryDirectory();
    made.push(folder);
    cpSync(join(installation, "examples/container-api/links"), folder, { recursive: true });
    install(folder);
    const env = { ...process.env, PORT: "0", DATABASE_URL: database.url(world.private) };
    const service = spawn(process.execPath, ["server.mjs"], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
    try {
      const [said] = (await once(createInterface(service.stdout), "line")) as [string];
      const port = /^serves on (\d+)$/.exec(said)?.[1];
      const links = (path: string, init: RequestInit = {}) =>
        fetch(`http://127.0.0.1:${port}/${path}`, { redirect: "manual", ...init });
      assert.equal((await links("healthz")).status, 200);
      assert.equal((await links("", { method: "POST", body: "javascript:alert(1)" })).status, 400);
      const saved = await links("", { method: "POST", body: "https://example.com/a?b" });
      assert.equal(saved.status, 201);
      const { code } = (await saved.json()) as { code: string };
      assert.equal((await links(code)).headers.get("location"), "https://example.com/a?b");
      assert.deepEqual(await (await links(`${code}/visits`)).json(), { address: "https://example.com/a?b", visits: 1 });
      assert.equal((await links("none")).status, 404);
      assert.equal((await database.sql("select code || ' ' || visits from links")).trim(), `${code} 1`);
      const ended = once(service, "exit");
      service.kill();
      assert.deepEqual(await ended, [0, null]);
    } finally {
      await stopChild(service);
    }
  });

  test("a permit that is taken back holds for new connections at once; what stands goes on until a restart", async () => {
    await permit("none");
    await eventually(
      "the permitted address is closed",
      async () => (await reach("node", `${world.private}:80`))[0] === "EHOSTUNREACH",
    );
    const now = await reach("node", "db.internal:8080", "www.example.com:443");
    assert.deepEqual(now, ["ENOTFOUND", "open"]);
    assert.equal((await daemon.fetch("notes.localhost", "/")).status, 200, "its connection stands");
    await daemon.client.workloads.restart("default", "notes");
    await eventually(
      "it cannot connect any more",
      async () => (await daemon.fetch("notes.localhost", "/")).status >= 500,
    );
    await daemon.client.projects.set("default", { egressPermit: ["10.0.0.5:5432"] });
    assert.equal((await daemon.fetch("notes.localhost", "/")).status, 200, "and can again");
    allAre("EHOSTUNREACH", await reach("node", `${world.private}:80`));
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });
}

const whyNot = cannotRun() ?? cannotServe();
if (whyNot !== null) test("allow-lists of functions", { skip: whyNot }, () => {});
else if (insideMachine()) void describe("allow-lists of functions", suite);
