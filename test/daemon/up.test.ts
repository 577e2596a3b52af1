// `ebb up` where it may not isolate: without root, without an engine, and with --isolation none.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { installation } from "#config.ts";
import { eventually, removeDirectory, runCommand, temporaryDirectory, type CommandResult } from "./fixture.ts";

const places: string[] = [];
after(() => places.forEach(removeDirectory));

/** A directory that anybody may write into; it is gone afterwards. */
function place(): string {
  const directory = temporaryDirectory();
  places.push(directory);
  chmodSync(directory, 0o777);
  return directory;
}

/** Runs `ebb` as nobody, who may not isolate. */
function asNobody(args: readonly string[], directory: string): ChildProcess {
  const program = ["--reuid=65534", "--regid=65534", "--clear-groups", join(installation, "ebb"), ...args];
  return spawn("setpriv", program, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOME: directory },
  });
}

const root = process.getuid?.() === 0;

test("without root, up refuses with one sentence that names both ways on", { skip: !root }, async () => {
  const directory = place();
  const child = asNobody(["up", "--data", join(directory, "data"), "--listen", "127.0.0.1:0"], directory);
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  assert.equal(code, 1);
  assert.match(said, /^[^\n]*needs root: sudo \.\/ebb up; [^\n]*\.\/ebb up --isolation none\n$/);
});

test(
  "--isolation none serves without root: loopback only, and ls says that nothing is isolated",
  { skip: !root },
  async () => {
    const directory = place();
    const data = join(directory, "data");
    mkdirSync(join(directory, "app"));
    writeFileSync(
      join(directory, "app/index.mjs"),
      "export default () => { console.log('plain'); return new Response(String(process.getuid())); };",
    );
    const child = asNobody(["up", "--data", data, "--listen", "127.0.0.1:0", "--isolation", "none"], directory);
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding("utf8").on("data", (chunk: string) => {
        said += chunk;
        child.emit("said");
      });
    child.once("close", () => child.emit("said"));
    try {
      while (!/^ready http:\/\/127\.0\.0\.1:\d+$/m.test(said)) {
        assert.equal(child.exitCode, null, said);
        await once(child, "said");
      }
      const ebb = (...args: string[]): Promise<CommandResult> => runCommand(args, { env: { EBB_DATA: data } });
      const deployed = await ebb("deploy", join(directory, "app"), "--public");
      assert.equal(deployed.code, 0, deployed.stderr + said);
      const invoked = await ebb("invoke", "app", "--json");
      assert.equal(invoked.code, 0, invoked.stderr + said);
      assert.equal((JSON.parse(invoked.stdout) as { body: string }).body, "65534");
      const rows = JSON.parse((await ebb("ls", "--json")).stdout) as Array<{ isolation: string }>;
      assert.deepEqual(
        rows.map(({ isolation }) => isolation),
        ["none"],
      );
      assert.match((await ebb("ls")).stdout, /not isolated/);
      await eventually("its line is in the log", async () => (await ebb("logs", "app")).stdout.includes("plain"));
    } finally {
      const closed = once(child, "close");
      child.kill("SIGTERM");
      await closed;
    }
    assert.equal(child.exitCode, 0, said);
  },
);

test("without an engine, up refuses and doctor tells, each with what to install", { skip: !root }, async () => {
  const directory = place();
  // The daemon takes engines from the system's folders, whatever PATH says: hidden in a mount namespace of this one process.
  const script = 'for one in crun runc; do at=$(command -v $one) && mount --bind /dev/null "$at"; done; exec "$0" "$@"';
  const hidden = async (...args: string[]): Promise<CommandResult> => {
    const program = ["--mount", "sh", "-c", script, join(installation, "ebb"), ...args, "--data", directory];
    const child = spawn("unshare", program, { stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: child.exitCode ?? -1, stdout, stderr };
  };
  const up = await hidden("up", "--listen", "127.0.0.1:0");
  assert.deepEqual([up.code, up.stdout], [1, ""]);
  assert.match(up.stderr, /^[^\n]*no OCI engine on this machine: install crun[^\n]*--isolation none[^\n]*\n$/);
  const doctor = await hidden("doctor", "--json");
  assert.equal(doctor.code, 1);
  assert.match(doctor.stderr, /crun, runc\n$/);
  const findings = JSON.parse(doctor.stdout) as Array<{ what: string; verdict: string; remedy: string | null }>;
  assert.deepEqual(
    findings.filter(({ what }) => what === "crun" || what === "runc").map(({ verdict, remedy }) => [verdict, remedy]),
    [
      ["missing", "sudo apt-get install -y crun"],
      ["missing", "sudo apt-get install -y runc"],
    ],
  );
});
