// The floor of a pool hit: a sandbox that a bare engine has started ahead, one of `node:http` before it, and nothing that ebb adds.

import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBareEngine } from "./bare-engine.ts";
import { oneAnswer } from "./one-answer.ts";

/** As often as ebb's own shim. */
const rehearsals = 3;

/** Imports what it is told, and calls it from then on. */
const shim = `import { createServer } from "node:http";
let handler = () => "nothing yet";
createServer(async ({ url }, response) => {
  if (!url.startsWith("/load?")) return response.end(handler());
  handler = (await import(url.slice("/load?".length))).default;
  response.end("loaded");
}).listen(process.env.PORT);
`;
const hello = `export default () => "hello";\n`;

/** Its arguments: the sandbox's socket, and where the code of the next call lies and where it is to be seen. */
const door = `import { renameSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
const [socket, spare, code] = process.argv.slice(2);
const ask = (connection, path) => new Promise((resolve, reject) => {
  connection.once("data", resolve).once("error", reject);
  connection.write("GET " + path + " HTTP/1.1\\r\\nhost: shim\\r\\n\\r\\n");
});
const server = createServer(async (_request, response) => {
  renameSync(spare, code);
  const connection = connect(socket);
  await ask(connection, "/load?/code/hello.mjs");
  const answer = String(await ask(connection, "/"));
  connection.destroy();
  response.end(answer.slice(answer.indexOf("\\r\\n\\r\\n") + 4));
});
server.listen(0, "127.0.0.1", () => process.send(server.address().port));
`;

export interface BarePool {
  /** A sandbox of its own is started, and rests for so long; then milliseconds from the connect to the last byte of its first answer. */
  hit(restMs: number): Promise<number>;
  remove(): Promise<void>;
}

/** @param engine its program @param node the binary that runs in the sandbox, and before it */
export async function createBarePool(engine: string, node: string): Promise<BarePool> {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bench-"));
  const code = join(folder, "code");
  mkdirSync(code);
  for (const [path, text] of Object.entries({ "code/shim.mjs": shim, "door.mjs": door }))
    writeFileSync(join(folder, path), text);
  for (let n = 0; n < rehearsals; n++) writeFileSync(join(code, `rehearsal-${n}.mjs`), hello);
  const bare = createBareEngine({ engine, node, code, entry: "shim.mjs" });
  const [spare, seen] = [join(folder, "spare.mjs"), join(code, "hello.mjs")];
  const server = fork(join(folder, "door.mjs"), [bare.socket, spare, seen], { execPath: node, execArgv: [] });
  const [port] = (await once(server, "message")) as [number];
  return {
    async hit(restMs) {
      rmSync(seen, { force: true });
      writeFileSync(spare, hello);
      const sandbox = await bare.launch();
      try {
        for (let n = 0; n < rehearsals; n++) await rehearse(bare.socket, `/code/rehearsal-${n}.mjs`);
        await new Promise((resolve) => setTimeout(resolve, restMs));
        const began = performance.now();
        const answer = await oneAnswer({ port }, "bench");
        const tookMs = performance.now() - began;
        if (!answer?.endsWith("hello")) throw new Error(`the bare pool answered: ${answer}`);
        return tookMs;
      } finally {
        await sandbox.end();
      }
    },
    async remove() {
      const exited = once(server, "exit");
      server.kill();
      await exited;
      bare.remove();
      rmSync(folder, { recursive: true });
    },
  };
}

async function rehearse(path: string, module: string): Promise<void> {
  const connection = connect({ path });
  for (const target of [`/load?${module}`, "/"]) {
    const answered = once(connection, "data");
    connection.write(`GET ${target} HTTP/1.1\r\nhost: shim\r\n\r\n`);
    await answered;
  }
  connection.destroy();
}
