// The peers that come as npm packages, and bare node:http: the hello function as each wants it, and how each is started.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Packages } from "./packages.ts";
import { contenderOf, type Program } from "./program.ts";
import type { Contender } from "./contender.ts";

export const bareServer =
  'import { createServer } from "node:http";\ncreateServer((q, s) => s.end("hello")).listen(process.env.PORT);\n';

const workerdDate = "2026-07-01";
const files: Readonly<Record<string, string>> = {
  "function.cjs": 'exports.hello = (request, response) => response.end("hello");\n',
  "package.json": '{ "main": "function.cjs" }\n',
  "lambda.js": 'exports.handler = async () => ({ statusCode: 200, body: "hello" });\n',
  "serverless.yml": `service: hello
frameworkVersion: "3"
provider: { name: aws, runtime: nodejs20.x }
plugins: [serverless-offline]
functions:
  hello: { handler: lambda.handler, events: [{ httpApi: "GET /" }] }
`,
  "worker.mjs": 'export default { fetch: () => new Response("hello") };\n',
  "workerd.capnp": `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "hello", worker = (
    modules = [(name = "worker.mjs", esModule = embed "worker.mjs")], compatibilityDate = "${workerdDate}"))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "hello")]
);
`,
  // No cf: the simulator would ask the vendor for what request.cf is to hold.
  "miniflare.mjs": `import { Miniflare } from "miniflare";
await new Miniflare({
  modules: true, modulesRoot: ".", scriptPath: "worker.mjs", compatibilityDate: "${workerdDate}",
  host: "127.0.0.1", port: Number(process.env.PORT), cf: false,
}).ready;
`,
};

export function bareNode(folder: string): Contender {
  writeFileSync(join(folder, "server.mjs"), bareServer);
  return contenderOf({
    name: "bare `node:http`",
    version: `Node ${process.versions.node}`,
    isolates: "nothing: a process with its user's rights",
    cwd: folder,
    env: {},
    command: () => [process.execPath, join(folder, "server.mjs")],
  });
}

export function npmPeers({ folder, versionOf }: Packages): Contender[] {
  // Below the packages, so that they are found from here; the home is kept, for what serverless compiles once.
  const cwd = join(folder, "hello");
  mkdirSync(cwd, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(cwd, file), text);
  const script = (path: string): string => join(folder, "node_modules", path);
  const workerd = `@cloudflare/workerd-linux-${process.arch === "arm64" ? "arm64" : "64"}/bin/workerd`;
  const shared = { cwd, env: { HOME: cwd, CI: "1", SLS_TELEMETRY_DISABLED: "1", SLS_NOTIFICATIONS_MODE: "off" } };
  const programs: Program[] = [
    {
      ...shared,
      name: "functions-framework",
      version: versionOf("@google-cloud/functions-framework"),
      isolates: "nothing: one function a process, with its user's rights",
      command: () => [
        process.execPath,
        script("@google-cloud/functions-framework/build/src/main.js"),
        "--target=hello",
      ],
    },
    {
      ...shared,
      name: "serverless-offline",
      version: `${versionOf("serverless-offline")} (serverless ${versionOf("serverless")})`,
      isolates: "a worker thread: a heap of its own; the process, its user, files and network are shared",
      command: (port, spare) => [
        process.execPath,
        script("serverless/bin/serverless.js"),
        "offline",
        "start",
        "--host=127.0.0.1",
        `--httpPort=${port}`,
        `--lambdaPort=${spare}`,
      ],
    },
    {
      ...shared,
      name: "workerd",
      version: versionOf("workerd"),
      isolates:
        "a V8 isolate: in a shared process, without files, processes or limits; by its README not a hardened sandbox",
      command: (port) => [script(workerd), "serve", "workerd.capnp", "--socket-addr", `http=127.0.0.1:${port}`],
    },
    {
      ...shared,
      name: "miniflare",
      version: versionOf("miniflare"),
      isolates: "a V8 isolate: as workerd, behind a simulator for development",
      command: () => [process.execPath, join(cwd, "miniflare.mjs")],
    },
  ];
  return programs.map(contenderOf);
}
