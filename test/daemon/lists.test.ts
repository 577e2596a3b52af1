// Allow-lists from `ebb deploy` to the packet, in every kind of runtime, and examples/notes with a real PostgreSQL behind one. On a machine
// of its own (a network namespace) whose world is another: nothing here leaves them.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { appendFileSync, chmodSync, chownSync, cpSync, existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, layerOf, writeLayout } from "#images/images.testing.ts";
import { cannotRun, execute, insideMachine, inWorld, startWorld, stopChild, world } from "#network/testing/machine.ts";
import { eventually, folderOf, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";

const programs = globSync("/usr/lib/postgresql/*/bin").toSorted().at(-1);
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
const password = "correct-horse";

function suite(): void {
  const made: string[] = [];
  let others: ChildProcess;
  let database: ChildProcess;
  let daemon: Daemon;
  let sockets: string;

  before(async () => {
    others = await startWorld();
    ({ database, sockets } = await startDatabase());
    made.push(sockets);
    daemon = await startDaemon({ launcher: launcherWithResolver() });
  });
  after(async () => {
    await daemon?.stop();
    if (database) await stopChild(database);
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
    // What npm install would fetch: the version that is pinned here is the example's.
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      dependencies: Record<string, string>;
    };
    const client = join(installation, "node_modules/postgres");
    const { version } = JSON.parse(readFileSync(join(client, "package.json"), "utf8")) as { version: string };
    assert.equal(manifest.dependencies["postgres"], version);
    cpSync(client, join(folder, "node_modules/postgres"), { recursive: true });
    const url = `postgres://notes:${password}@db.internal:5432/notes`;
    assert.equal((await daemon.ebb(["secrets", "set", "DATABASE_URL"], { stdin: url })).code, 0);
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
    assert.equal((await sql("select id || ' ' || text from notes", "notes")).trim(), "2 second");
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
    assert.equal((await daemon.ebb(["restart", "notes"])).code, 0);
    await eventually(
      "it cannot connect any more",
      async () => (await daemon.fetch("notes.localhost", "/")).status >= 500,
    );
    await permit("10.0.0.5:5432");
    assert.equal((await daemon.fetch("notes.localhost", "/")).status, 200, "and can again");
    allAre("EHOSTUNREACH", await reach("node", `${world.private}:80`));
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });

  /** The daemon asks the world's resolver, in a mount namespace of its own. */
  function launcherWithResolver(): string {
    const folder = folderOf({
      "resolv.conf": `nameserver ${world.public}\n`,
      up: `#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "$(dirname "$0")/resolv.conf" "${join(installation, "ebb")}" "$@"
`,
    });
    made.push(folder);
    chmodSync(join(folder, "up"), 0o755);
    return join(folder, "up");
  }

  function sql(text: string, name: string): Promise<string> {
    const argv = ["-h", sockets, "-U", "postgres", "-d", name, "-v", "ON_ERROR_STOP=1", "-Atc", text];
    return run(join(programs!, "psql"), argv);
  }
}

async function run(file: string, args: readonly string[]): Promise<string> {
  const result = await execute(file, args);
  assert.equal(result.code, 0, `${file} ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

/** PostgreSQL in the world, at its private address, with a database and a user `notes`. */
async function startDatabase(): Promise<{ database: ChildProcess; sockets: string }> {
  const sockets = temporaryDirectory();
  const data = join(sockets, "data");
  const [uid, gid] = (await Promise.all(["-u", "-g"].map((which) => run("id", [which, "postgres"])))).map(Number);
  chownSync(sockets, uid!, gid!);
  const asOwner = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
  const ways = ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--username=postgres"];
  await run("setpriv", [...asOwner, join(programs!, "initdb"), "--pgdata", data, ...ways]);
  appendFileSync(join(data, "pg_hba.conf"), "host notes notes 0.0.0.0/0 scram-sha-256\n");
  const settings = { listen_addresses: world.private, unix_socket_directories: sockets, fsync: "off" };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  const argv = [...inWorld(), "setpriv", ...asOwner, join(programs!, "postgres"), "-D", data, ...options];
  const database = spawn("nsenter", argv, { stdio: ["ignore", "ignore", "pipe"] });
  await new Promise<void>((resolve, reject) => {
    let said = "";
    createInterface({ input: database.stderr }).on("line", (line) => {
      said += `${line}\n`;
      if (line.includes("ready to accept connections")) resolve();
    });
    database.once("exit", () => reject(new Error(said)));
  });
  for (const text of [`create role notes login password '${password}'`, "create database notes owner notes"])
    await run(join(programs!, "psql"), ["-h", sockets, "-U", "postgres", "-d", "postgres", "-c", text]);
  return { database, sockets };
}

const whyNot = cannotRun() ?? (programs === undefined ? "needs Debian's postgresql" : null);
if (whyNot !== null) test("allow-lists of functions", { skip: whyNot }, () => {});
else if (insideMachine()) void describe("allow-lists of functions", suite);
