// Every runtime in its real sandbox: the versions of Node that are fetched on first use, Python, and any program that serves HTTP.

import assert from "node:assert/strict";
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { interpretersFolder } from "../runtimes/interpreters.ts";
import { eventually, folderOf, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";

let daemon: Daemon;
const folders: string[] = [];

before(async () => {
  const directory = temporaryDirectory();
  folders.push(directory);
  // Node 22 and 24 as test/runtimes/ has fetched them, where it has: npm's part in it is a third of what is done here.
  const kept = existsSync(interpretersFolder) ? readdirSync(interpretersFolder) : [];
  for (const name of kept.filter((one) => one.startsWith("node-"))) {
    mkdirSync(join(directory, "interpreters"), { mode: 0o711, recursive: true });
    const [from, to] = [join(interpretersFolder, name), join(directory, "interpreters", name)];
    try {
      linkSync(from, to);
    } catch {
      // Another file system.
      copyFileSync(from, to);
    }
  }
  daemon = await startDaemon({ directory });
  deployed = await deployAll();
});

after(async () => {
  await daemon?.stop();
  for (const folder of folders) removeDirectory(folder);
});

/** All of them in one app: what is looked at is how each is recognised and serves. */
const functions: Record<string, { readonly settings?: string; readonly files: Record<string, string> }> = {
  ...Object.fromEntries(
    [22, 24, 26].map((major) => [
      `on-${major}`,
      {
        settings: `, runtime: node${major}`,
        files: { "index.mjs": "export default async (r) => new Response(`${process.version} ${await r.text()}`);" },
      },
    ]),
  ),
  engines: {
    files: {
      "package.json": '{"type":"module","engines":{"node":"24.x"}}',
      "index.js": "export default () => new Response(process.version);",
    },
  },
  wsgi: {
    files: {
      "app.py":
        "def app(environ, start_response):\n    start_response('200 OK', [('content-type', 'text/plain'), ('x-two', 'a'), ('x-two', 'b')])\n    return [environ['PATH_INFO'].encode()]\n",
    },
  },
  asgi: {
    settings: ", concurrency: 10",
    files: {
      "main.py":
        "async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    await send({'type': 'http.response.body', 'body': b'asgi'})\n",
    },
  },
  raises: {
    files: { "handler.py": "def handle(event, context):\n    print('before')\n    raise ValueError('no')\n" },
  },
  program: {
    settings: ", runtime: custom, command: [/usr/bin/python3, server.py], concurrency: 5",
    files: {
      "server.py":
        "import os\nfrom http.server import BaseHTTPRequestHandler, ThreadingHTTPServer\n\n\nclass Handler(BaseHTTPRequestHandler):\n    def do_GET(self):\n        body = b'program'\n        self.send_response(200)\n        self.send_header('content-length', str(len(body)))\n        self.end_headers()\n        self.wfile.write(body)\n\n\nThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()\n",
    },
  },
  listens: {
    files: {
      "server.js":
        "const { createServer } = require('node:http');\ncreateServer((q, s) => s.end(`listening ${q.url}`)).listen(process.env.PORT ?? 3000, () => console.log('up'));\n",
    },
  },
};
let deployed: string;

async function deployAll(): Promise<string> {
  const files: Record<string, string> = { "ebb.yaml": "functions:\n" };
  for (const [name, { settings = "", files: own }] of Object.entries(functions)) {
    files["ebb.yaml"] += `  ${name}: { source: ./${name}, public: true, memoryMb: 128${settings} }\n`;
    for (const [path, text] of Object.entries(own)) files[`${name}/${path}`] = text;
  }
  const folder = folderOf(files);
  folders.push(folder);
  const result = await daemon.ebb(["deploy", folder]);
  assert.equal(result.code, 0, result.stderr + result.stdout + daemon.log());
  return result.stdout;
}

/** What the deploy said of one of them. */
const said = (name: string): string => deployed.split("\n").find((line) => line.startsWith(`${name} `)) ?? "";

for (const major of [22, 24, 26])
  test(`runtime node${major} runs Node ${major}, fetched where it is not the pinned one`, async () => {
    assert.match(said(`on-${major}`), new RegExp(`node${major}`));
    const answer = await daemon.fetch(`on-${major}.localhost`, "/", { method: "POST", body: "ping" });
    assert.match(answer.text, new RegExp(`^v${major}\\..* ping$`));
  });

test("package.json's engines choose the Node version", async () => {
  assert.match(said("engines"), /node24/);
  assert.match((await daemon.fetch("engines.localhost", "/")).text, /^v24\./);
});

test("Python serves event handlers, WSGI and ASGI, and its errors show its lines", async () => {
  assert.equal((await daemon.fetch("wsgi.localhost", "/path")).text, "/path");
  assert.equal((await daemon.fetch("asgi.localhost", "/")).text, "asgi");
  assert.equal((await daemon.fetch("raises.localhost", "/")).status, 500);
  await eventually("the traceback is in the log", async () => {
    const { stdout } = await daemon.ebb(["logs", "raises"]);
    return stdout.includes("before") && /handler\.py", line 3/.test(stdout);
  });
});

test("runtime custom serves whatever program listens on $PORT, and its output is its log", async () => {
  assert.equal((await daemon.fetch("program.localhost", "/")).text, "program");
  await eventually("its access log", async () =>
    (await daemon.ebb(["logs", "program"])).stdout.includes("GET / HTTP/1.1"),
  );
});

test("a program that never listens is refused at deploy, in words", async () => {
  const folder = folderOf({
    "ebb.yaml": "functions:\n  deaf:\n    source: ./src\n    runtime: custom\n    command: [./run.sh]\n",
    "src/run.sh": "#!/bin/sh\necho starting up\nexit 3\n",
  });
  folders.push(folder);
  const { chmodSync } = await import("node:fs");
  chmodSync(`${folder}/src/run.sh`, 0o755);
  const refused = await daemon.ebb(["deploy", folder]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /deaf: .*(exited|ended)/);
});

test("a server that listens by itself is served: what Express, Fastify and Koa do", async () => {
  assert.match(said("listens"), /server/);
  assert.equal((await daemon.fetch("listens.localhost", "/x")).text, "listening /x");
});
