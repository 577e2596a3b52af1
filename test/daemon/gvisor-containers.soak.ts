// Containers in class gvisor, in a real ebb on a machine of its own: an image's user, files, secrets and probes, HTTP, WebSockets and gRPC,
// what it may reach, what is metered, and how it is held still and ends. The same for class container: containers.test.ts, lists.test.ts.

import assert from "node:assert/strict";
import { spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, layerOf, writeLayout, type Entry } from "#images/images.testing.ts";
import { cannotRun, insideMachine, startWorld, stopChild, world } from "#network/testing/machine.ts";
import {
  eventually,
  launcherAsking,
  removeDirectory,
  startDaemon,
  temporaryDirectory,
  type Daemon,
} from "./fixture.ts";
import { install, nodeLayer } from "./node-image.ts";
import { livesOf, nothingLeftOf, pids, type Life } from "./traces.ts";

const whyNot =
  cannotRun() ??
  ["/usr/bin/skopeo", "/usr/bin/runsc", "/bin/busybox"]
    .map((path) => (existsSync(path) ? null : `no ${path}`))
    .find(Boolean) ??
  null;
const canary = "canary-7a01c9-of-nobody-else";

/** Runs what it is sent: the tests are its author. */
const server = `import { createServer } from "node:http";
import { createRequire } from "node:module";
const require = createRequire("/");
let asked = 0;
createServer(async (request, response) => {
  if (request.url === "/ready") return response.writeHead(++asked > 2 ? 200 : 503).end();
  if (request.url === "/alive") return response.writeHead(globalThis.sick ? 500 : 200).end();
  let code = "";
  for await (const part of request) code += part;
  try {
    response.end(JSON.stringify((await new Function("require", "asked", "return (async () => {" + code + "})()")(require, asked)) ?? null));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(process.env.PORT), () => console.log("serving on " + process.env.PORT));
process.on("SIGTERM", () => (console.log("goodbye"), process.exit(0)));
`;
/** "open", the code of the error, or "silent": what egress refuses is not told to programs by gVisor's network stack. */
const reach = (...targets: readonly string[]): string => `const { connect } = require("node:net");
return Promise.all(${JSON.stringify(targets)}.map((target) => new Promise((resolve) => {
  const [host, port] = target.split(":");
  const socket = connect({ host, port: Number(port), timeout: 2_000 });
  socket.on("connect", () => (socket.destroy(), resolve("open")));
  socket.on("timeout", () => (socket.destroy(), resolve("silent")));
  socket.on("error", (error) => resolve(error.code));
})));`;

/** What is below a folder, as it is put into an image. */
function entriesOf(folder: string, below: string): Entry[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => ({ name: join(below, relative(folder, path)), content: readFileSync(path) }));
}

interface Talk {
  readonly heard: string[];
  say(text: string): void;
  close(): Promise<void>;
}

function talk(daemon: Daemon, host: string): Talk {
  const { WebSocket } = createRequire(import.meta.url)("ws") as {
    WebSocket: new (url: string, options: object) => NodeJS.EventEmitter & { send(text: string): void; close(): void };
  };
  const socket = new WebSocket(`ws://127.0.0.1:${daemon.port}/room?name=ada`, { headers: { host } });
  const heard: string[] = [];
  socket.on("message", (data: Buffer) => void heard.push(data.toString()));
  return {
    heard,
    say: (text) => socket.send(text),
    close: async () => {
      socket.close();
      await once(socket, "close");
    },
  };
}

function suite(): void {
  const folder = temporaryDirectory();
  const folders = [folder];
  let others: ChildProcess;
  let daemon: Daemon;
  let life: Life;

  before(async () => {
    others = await startWorld();
    const asking = launcherAsking(world.public);
    folders.push(dirname(asking));
    daemon = await startDaemon({ launcher: asking, args: ["--pause", "1"] });
    folders.push(daemon.directory);
    life = livesOf(daemon.process.pid ?? 0)[0]!;
    const examples = { chat: "websocket-chat", greeter: "grpc/greeter" };
    for (const [name, example] of Object.entries(examples)) {
      cpSync(join(installation, "examples", example), join(folder, name), { recursive: true });
      install(join(folder, name));
    }
    const base = await nodeLayer([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      { name: "bin/sh", type: "symlink", linkname: "busybox" },
    ]);
    const layer = await layerOf([
      { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n" },
      { name: "srv/", type: "directory", mode: 0o755, uid: 101, gid: 102 },
      { name: "srv/theirs", mode: 0o600, uid: 1_000, gid: 1_001, content: "theirs" },
      { name: "srv/server.mjs", content: server },
      ...Object.keys(examples).flatMap((name) => entriesOf(join(folder, name), `app/${name}`)),
    ]);
    const said = { User: "web", Env: ["FROM_IMAGE=yes"], WorkingDir: "/srv", Entrypoint: ["node", "server.mjs"] };
    const config = { ...said, ExposedPorts: { "81/tcp": {} }, Cmd: ["from", "image"] };
    const app = folder;
    writeLayout(join(app, "image"), imageOf([base, layer], { config }));
    const permitted = await daemon.ebb(["projects", "set", "default", "--egress-permit", "10.0.0.0/24"]);
    assert.equal(permitted.code, 0, permitted.stderr);
    assert.equal((await daemon.ebb(["secrets", "set", "KEY"], { stdin: canary })).code, 0);
    const settings = "isolation: gvisor, public: true, memoryMb: 128";
    const held = `${settings}, max: 1, idleSeconds: 600`;
    const list = '["www.example.com:443", "10.0.0.5:80", "db.internal:8080"]';
    const room =
      "public: true, memoryMb: 128, command: [node, /app/chat/server.mjs], idleSeconds: 0, timeoutSeconds: 600";
    const files = {
      "ebb.yaml": `containers:
  web: { image: ./image, ${held}, env: { LEVEL: info }, secrets: [KEY], writableMb: 8, probe: { http: /ready }, liveness: { http: /alive }, egress: ${list} }
  burn: { image: ./image, ${settings}, max: 2, idleSeconds: 0, scaling: { cpuPercent: 10 } }
  holds: { image: ./image, ${held}, scaling: { memoryPercent: 90 } }
  room: { image: ./image, isolation: gvisor, ${room} }
  room-as-container: { image: ./image, ${room} }
  greeter: { image: ./image, ${held}, command: [node, /app/greeter/server.mjs], protocol: h2c, egress: none }
functions:
  chat: { source: ./chat, ${settings}, idleSeconds: 0, concurrency: 20, timeoutSeconds: 600 }
  callee: { source: ./callee, isolation: gvisor, memoryMb: 64 }
`,
      "callee/index.mjs": "export default (r) => new Response(`callee ${r.headers.get('ebb-token') ?? 'no token'}`);",
    };
    mkdirSync(join(app, "callee"));
    for (const [path, text] of Object.entries(files)) writeFileSync(join(app, path), text);
    const deployed = await daemon.ebb(["deploy", app]);
    assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
  });
  after(async () => {
    await daemon?.stop();
    if (others) await stopChild(others);
    for (const path of folders) removeDirectory(path);
  });

  async function inside<T>(code: string, name = "web"): Promise<T> {
    const { status, text } = await daemon.fetch(`${name}.localhost`, "/", { method: "POST", body: code });
    assert.equal(status, 200, text);
    return JSON.parse(text) as T;
  }
  const row = async (name: string) => (await daemon.client.workloads.list("default")).find((one) => one.name === name)!;
  const records = (name: string) => daemon.client.workloads.invocations("default", name);
  const gone = (name: string) => eventually(`${name} is gone`, async () => (await row(name)).instances === 0);
  const logged = (name: string, words: string) =>
    eventually(`the log of ${name} says ${words}`, async () =>
      (await daemon.client.logs("default", { workload: name })).some(({ message }) => message.includes(words)),
    );

  test("an image serves as it says itself: its program, user, folder, port and files, with what its revision adds", async () => {
    const [user, cwd, argv, env, owner, asked] = await inside<unknown[]>(`const fs = require("node:fs");
      const { FROM_IMAGE, LEVEL, KEY, PORT } = process.env;
      return [process.getuid() + ":" + process.getgid(), process.cwd(), process.argv.slice(2), [FROM_IMAGE, LEVEL, KEY, PORT], fs.statSync("theirs").uid, asked];`);
    assert.deepEqual([user, cwd, argv, env], ["101:102", "/srv", ["from", "image"], ["yes", "info", canary, "81"]]);
    assert.deepEqual([owner, asked], [1_000, 3], "files keep their owners, and the probe has waited");
    assert.equal(await inside(`return require("node:os").release()`), "4.4.0");
    await logged("web", "serving on 81");
    const { stdout } = await daemon.ebb(["ls"]);
    assert.match(stdout, /^web +container \(gvisor\) /m);
  });

  test("its secrets are in no process's command line or environment on the machine", () => {
    for (const pid of pids())
      for (const file of ["cmdline", "environ"]) {
        let text = "";
        try {
          text = readFileSync(`/proc/${pid}/${file}`, "latin1");
        } catch {
          continue;
        }
        assert.ok(!text.includes(canary), `${file} of ${pid}`);
      }
  });

  test("what it writes is bounded, and its own instance's", async () => {
    const write = (bytes: number): string =>
      `try { require("node:fs").writeFileSync("new", Buffer.alloc(${bytes})); return null; } catch (error) { return error.code; }`;
    assert.equal(await inside(write(1_000_000)), null);
    assert.equal(await inside(write(16_000_000)), "ENOSPC");
    assert.equal((await daemon.ebb(["restart", "web"])).code, 0);
    assert.equal(await inside(`return require("node:fs").existsSync("new")`), false);
    await logged("web", "goodbye");
  });

  test("what its list names is open at its port, and nothing else", async () => {
    const closed = "silent";
    assert.deepEqual(await inside(reach(`${world.public}:443`)), [closed]);
    const open = ["www.example.com:443", `${world.private}:80`, "db.internal:8080"];
    assert.deepEqual(await inside(reach(...open)), ["open", "open", "open"]);
    const others = ["www.example.com:80", `${world.private}:5432`, `${world.metadata}:80`];
    assert.deepEqual(await inside(reach(...others)), [closed, closed, closed]);
    assert.deepEqual(await inside(reach("short.example.com:443")), ["ENOTFOUND"]);
    await logged("web", "egress: short.example.com is withheld: it is not in the egress list");
  });

  test("it reaches the functions of its project at ebb.internal, and nothing of the platform's API", async () => {
    const get = (url: string): Promise<string> =>
      inside(`const answer = await fetch("${url}"); return answer.status + " " + (await answer.text());`);
    assert.equal(await get("http://callee.ebb.internal/"), "200 callee no token");
    assert.equal(await get("http://ebb.internal/run/default/callee/"), "200 callee no token");
    assert.match(await get("http://ebb.internal/api/v1/workloads"), /^(401|403|404|421)/);
  });

  test("a WebSocket goes both ways, to a container and to a function, for as long as it lasts", async () => {
    for (const name of ["room", "chat"]) {
      const ada = talk(daemon, `${name}.localhost`);
      await eventually("it is open", async () => ada.heard.includes("* ada is here, with 0 others"));
      for (const word of ["first", "second"]) {
        ada.say(word);
        await eventually("it is echoed", async () => ada.heard.at(-1) === `ada: ${word}`);
      }
      await ada.close();
      await gone(name);
      const [record] = await records(name);
      assert.deepEqual([record?.outcome, record?.cold], ["ok", true]);
    }
  });

  test("gRPC: its client gets an answer to every kind of call, from zero and again", async () => {
    for (let turn = 0; turn < 2; turn++) {
      const env = { ...process.env, EBB: `127.0.0.1:${daemon.port}` };
      const { stdout, stderr } = spawnSync(process.execPath, [join(folder, "greeter/client.mjs")], {
        env,
        encoding: "utf8",
      });
      assert.equal(stdout, "Hello, Ada!\ncounted 1 2 3 4 5\ntheir sum is 15\nHello, Grace!\nHello, Edsger!\n", stderr);
    }
    const all = await records("greeter");
    assert.deepEqual([all.length, all.filter(({ cold }) => cold).length], [8, 1]);
    assert.ok(all.every(({ outcome, status }) => outcome === "ok" && status === 200));
  });

  test("a call is metered with the CPU that its sandbox used, gVisor's kernel with it", async (t) => {
    await inside("return 1");
    const beforeNs = cpuOf(life);
    await inside(
      "for (let n = 0; n < 1e9; n++); for (let n = 0; n < 2e4; n++) require('node:fs').statSync('/'); return 1",
    );
    const outsideMs = (cpuOf(life) - beforeNs) / 1e6;
    const [record] = await records("web");
    const cpuMs = record?.cpuMs ?? 0;
    const words = `${Math.round(cpuMs)} ms metered, of ${Math.round(outsideMs)} ms that its threads have had`;
    t.diagnostic(words);
    assert.ok(cpuMs > 100 && cpuMs <= outsideMs + 5 && cpuMs >= 0.8 * outsideMs - 50, words);
  });

  test("many calls at a time are one instance's, and one that does not live is replaced", async () => {
    const wait =
      "await new Promise((resolve) => setTimeout(resolve, 200)); globalThis.calls = (globalThis.calls ?? 0) + 1; return calls";
    const counts = await Promise.all(Array.from({ length: 20 }, () => inside<number>(wait)));
    assert.deepEqual(
      counts.toSorted((a, b) => a - b),
      counts.map((_, i) => i + 1),
    );
    await inside("globalThis.sick = true");
    const isAnother = async (): Promise<boolean> => {
      const body = "return globalThis.sick ?? null";
      const { status, text } = await daemon.fetch("web.localhost", "/", { method: "POST", body });
      return status === 200 && text === "null";
    };
    await eventually("another serves", isAnother, 60_000);
  });

  test("one that scales by CPU gets another instance while it is busy, and goes back to zero", async () => {
    const busy = "const end = Date.now() + 8_000; while (Date.now() < end) for (let n = 0; n < 1e7; n++) ; return 1";
    const burning = inside(busy, "burn");
    await eventually("it is two", async () => (await row("burn")).instances === 2);
    await burning;
    await gone("burn");
  });

  test("the memory that is measured is what it holds, and what it gives back is not", async (t) => {
    const percent = async (what: string, is: (percent: number) => boolean): Promise<number> =>
      eventually(what, async () => {
        const { percent: now = null } = (await row("holds")).scaling ?? {};
        return now !== null && is(now) ? now : null;
      });
    await inside("globalThis.held = []; return 1", "holds");
    const idle = await percent("it is measured", (now) => now > 0);
    await inside("for (let n = 0; n < 40; n++) held.push(Buffer.alloc(1_048_576, 1)); return 1", "holds");
    const holding = await percent("it holds more", (now) => now >= idle + 25);
    await inside(
      `held.length = 0; require("node:v8").setFlagsFromString("--expose-gc"); require("node:vm").runInNewContext("gc")(); return 1`,
      "holds",
    );
    const after = await percent("it has given it back", (now) => now <= idle + 8);
    t.diagnostic(`of 128 MiB: idle ${idle}%, with 40 MiB ${holding}%, without ${after}%`);
  });

  test("more than its memory ends it, which its log tells, and the next call has another", async () => {
    const { status } = await daemon.fetch("web.localhost", "/", {
      method: "POST",
      body: "const all = []; for (;;) all.push(Buffer.alloc(1e6, 1));",
    });
    assert.equal(status, 502);
    await logged("web", "out of memory: 128 MiB");
    assert.equal(await inside("return 1"), 1);
  });

  test("starts from zero, beside those of class container", async (t) => {
    const turns = 7;
    const startsMs = { room: [] as number[], "room-as-container": [] as number[] };
    for (let turn = 0; turn < turns; turn++)
      for (const [name, all] of Object.entries(startsMs)) {
        assert.equal((await daemon.fetch(`${name}.localhost`, "/")).status, 200);
        await gone(name);
        const [record] = await records(name);
        assert.equal(record?.cold, true);
        all.push(record.startMs);
      }
    const [apart, plain] = Object.values(startsMs).map((all) => all.toSorted((a, b) => a - b)[turns >> 1]!);
    t.diagnostic(`medians of ${turns}: ${Math.round(apart!)} ms, as a container ${Math.round(plain!)} ms`);
  });

  test("it is held still between calls: it uses no CPU, and the next call finds it as it was", async () => {
    await inside("globalThis.ticks = 0; setInterval(() => globalThis.ticks++, 5)");
    await eventually("it is paused", async () => (await row("web")).paused === 1);
    const before = cpuOf(life);
    const { stdout } = await daemon.ebb(["ls"]);
    assert.match(stdout, /^web +container \(gvisor\) +r1 +paused +1\/1 /m);
    assert.equal(cpuOf(life), before);
    assert.equal(await inside("return globalThis.ticks > 0"), true);
  });

  test("kill -9 of ebb: nothing of it is left within 2 s", async () => {
    await eventually("it is paused", async () => (await row("web")).paused === 1);
    await daemon.kill();
    await nothingLeftOf([life], 4_000);
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });
}

/** What all sandboxes of this daemon have used, nanoseconds of each of their threads. */
function cpuOf(life: Life): number {
  let [found, sum] = [0, 0];
  for (const pid of pids()) {
    try {
      if (!readFileSync(`/proc/${pid}/cgroup`, "latin1").includes(`ebb-${life.name}/`)) continue;
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
        found++;
      }
    } catch {
      // It has ended.
    }
  }
  assert.ok(found > 0, "there is a sandbox");
  return sum;
}

if (whyNot !== null) test("containers in class gvisor", { skip: whyNot }, () => {});
else if (insideMachine()) void describe("containers in class gvisor", suite);
