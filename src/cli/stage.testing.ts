// For tests: the command line against a real HTTP server with the API over doubles.

/* oxlint-disable unicorn/no-useless-spread -- records are grouped by what they are about */
import assert from "node:assert/strict";
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { createServer } from "#lib/http.ts";
import { extract } from "tar-stream";
import { createApiWorld, type ApiWorld } from "#api/world.testing.ts";
import { readApp } from "#app/read.ts";
import { newInvocationId } from "#model/ids.ts";
import { runInProcess } from "./in-process.testing.ts";

const unpackedMark = "x-unpacked";
const entry = fileURLToPath(new URL("../cli.ts", import.meta.url));

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface RunOptions {
  readonly input?: string;
  readonly env?: Record<string, string>;
}

export interface Stage {
  readonly world: ApiWorld;
  readonly url: string;
  readonly home: string;
  readonly data: string;
  readonly token: string;
  /** Entries of the last archive that was sent: name to content, links as "-> target". */
  sent: Record<string, string>;
  /** As a process of its own, as its users run it. */
  start(argv: readonly string[], env?: Record<string, string>): ChildProcessWithoutNullStreams;
  /** In a terminal: what it shows until the command ends, and as it comes. */
  readonly inTerminal: (argv: readonly string[], seen?: (text: string) => void) => Promise<string>;
  /** To its end, in this process. */
  readonly ebb: (argv: readonly string[], options?: RunOptions) => Promise<Ran>;
  /** With --json: exactly one value on stdout, nothing on stderr. */
  readonly json: (argv: readonly string[], options?: RunOptions) => Promise<unknown>;
  /** Writes files below the home. */
  readonly folder: (name: string, files: Record<string, string>) => Promise<string>;
  stop(): Promise<void>;
}

export async function createStage(): Promise<Stage> {
  const world = await createApiWorld();
  const home = await mkdtemp(join(tmpdir(), "ebb-cli-"));
  const data = join(home, "data");
  await mkdir(data);
  const server = createServer((request, response) => {
    if (request.url?.startsWith("/run/")) void functionDouble(stage, request, response);
    else if (request.url?.startsWith("/api/v1/deploys") && !(unpackedMark in request.headers))
      void unpackInto(stage, request, response);
    else world.api.handle(request, response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const token = (await world.mint("admin", null)).text;
  await writeFile(join(data, "credentials.json"), JSON.stringify({ url, token }), { mode: 0o600 });

  // Compiled once for the hundred commands of a test, as the launcher does it.
  const cache = { NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(home, ".cache/ebb") };
  const environment = { PATH: process.env["PATH"] ?? "", HOME: home, EBB_DATA: data, ...cache };
  const start: Stage["start"] = (argv, env = {}) =>
    spawn(process.execPath, [entry, ...argv], { env: { ...environment, ...env }, stdio: "pipe" });
  const inTerminal: Stage["inTerminal"] = async (argv, seen = () => {}) => {
    const command = [process.execPath, entry, ...argv].map((word) => `'${word}'`).join(" ");
    const child = spawn("script", ["-qec", command, "/dev/null"], {
      env: { ...environment, NO_COLOR: "1" },
      stdio: ["pipe", "pipe", "ignore"],
    });
    let shown = "";
    for await (const chunk of child.stdout.setEncoding("utf8")) seen((shown += String(chunk)));
    return shown;
  };
  const ebb: Stage["ebb"] = async (argv, options = {}) => {
    const { code, stdout, stderr } = await runInProcess(argv, {
      stdin: options.input,
      environment: { ...environment, ...options.env },
    });
    return { code, out: stdout, err: stderr };
  };
  const stage: Stage = {
    ...{ world, url, home, data, token, sent: {}, start, inTerminal, ebb },
    json: async (argv, options) => {
      const { code, out, err } = await ebb([...argv, "--json"], options);
      assert.equal(code, 0, err);
      assert.equal(err, "", "nothing but the value");
      assert.equal(out.trimEnd().split("\n").length, 1, "one JSON value");
      return JSON.parse(out);
    },
    folder: async (name, files) => {
      const path = join(home, name);
      for (const [file, content] of Object.entries(files)) {
        await mkdir(join(path, file, ".."), { recursive: true });
        await writeFile(join(path, file), content);
      }
      return path;
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await world.stop();
      await rm(home, { recursive: true });
    },
  };
  return stage;
}

/** The world's builds take JSON for an archive: unpack the real one, and hand that on. */
async function unpackInto(
  stage: Stage,
  request: import("node:http").IncomingMessage,
  response: import("node:http").ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  const tar = extract();
  const files: Record<string, string> = {};
  tar.end(gunzipSync(Buffer.concat(chunks)));
  for await (const entry of tar) {
    const { name, type, linkname } = entry.header;
    if (type !== "directory") files[name] = type === "symlink" ? `-> ${linkname}` : await text(entry);
    entry.resume();
  }
  stage.sent = files;
  // And its reader takes JSON for an ebb.yaml.
  const written = files["ebb.yaml"];
  const read = written === undefined ? null : readApp(written, "ebb.yaml");
  const known = read?.ok ? { ...files, "ebb.yaml": JSON.stringify(read.app) } : files;
  const answer = await fetch(stage.url + request.url!, {
    method: "POST",
    headers: {
      authorization: request.headers.authorization ?? "",
      "content-type": "application/gzip",
      accept: request.headers.accept ?? "",
      [unpackedMark]: "yes",
    },
    body: JSON.stringify(known),
  });
  response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
  for await (const chunk of answer.body ?? []) response.write(chunk);
  response.end();
}

async function functionDouble(
  stage: Stage,
  request: import("node:http").IncomingMessage,
  response: import("node:http").ServerResponse,
): Promise<void> {
  const body = await text(request);
  const [, , project = "", name = "", ...rest] = (request.url ?? "").split("/");
  if (request.headers["ebb-token"] !== stage.token) {
    response.writeHead(401).end();
    return;
  }
  const id = newInvocationId(Date.now());
  stage.world.records.push({
    ...{
      id,
      project,
      workload: name,
      revision: 1,
      instance: "i1",
      trigger: "http",
      timeMs: 0,
      cold: true,
      queuedUs: 0,
    },
    ...{ startUs: 50_000, executionUs: 12_500, billedUs: 13_000, memoryMb: 256, cpuNs: null, bytesIn: 0, bytesOut: 0 },
    ...{ status: 200, outcome: "ok" },
  });
  const path = `/${rest.join("/")}`;
  response.writeHead(path === "/fail" ? 500 : 200, { "ebb-invocation-id": id, "content-type": "application/json" });
  response.end(JSON.stringify({ method: request.method, path, body, type: request.headers["content-type"] ?? null }));
}

/** What the world takes for the archive of a job. */
export const nightly = {
  "ebb.yaml": JSON.stringify({
    functions: [],
    jobs: [{ name: "nightly", source: "./nightly", command: ["true"] }],
  }),
  "nightly/x": "1",
};

export const jobCommands = [
  ["jobs run", "nightly", "--project", "json", "--env", "A=1"],
  ["jobs runs", "nightly", "--project", "json"],
  ["jobs result", "ID", "--project", "json"],
  ["jobs stop", "ID", "--project", "json"],
] as const;
