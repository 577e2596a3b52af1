// `ebb up` where it may not isolate: without an engine, and without root with --isolation none. What it says without root:
// src/daemon/prepare.test.ts.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, describe, test } from "node:test";
import { runInProcess } from "#cli/in-process.testing.ts";
import { send } from "#cli/send.ts";
import { createClient } from "#client/client.ts";
import { installation } from "#config.ts";
import { eventually, fetchFrom, removeDirectory, temporaryDirectory, type CommandResult } from "./fixture.ts";

const places: string[] = [];
after(() => places.forEach(removeDirectory));

/** A directory that anybody may write into; it is gone afterwards. */
function place(): string {
  const directory = temporaryDirectory();
  places.push(directory);
  chmodSync(directory, 0o777);
  return directory;
}

/** Where nobody reaches the installation. */
const reached = join(place(), "ebb");
mkdirSync(reached);

/**
 * Runs `ebb` as nobody, who may not isolate: at a place of its own, since the installation may lie where only root may enter. On a
 * machine that has no Python.
 */
function asNobody(args: readonly string[]): ChildProcess {
  const script =
    'mount --bind /dev/null "$(readlink -f /usr/bin/python3)" && mount --bind "$0" "$1" && at=$1 && shift && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$at/ebb" "$@"';
  return spawn("unshare", ["--mount", "sh", "-c", script, installation, reached, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // Without a home: what is compiled for one start is not kept.
    env: { PATH: process.env["PATH"] ?? "" },
  });
}

/** One that has ended already, too. */
async function terminated(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGTERM");
  await closed;
}

const root = process.getuid?.() === 0;

const engines = ["/usr/bin/crun", "/usr/sbin/runc"];
const bothEngines = engines.every((path) => existsSync(path));

/** Runs this where crun cannot start a sandbox. */
function withoutCrun(broken: string, argv: readonly string[]): readonly string[] {
  writeFileSync(broken, "#!/bin/sh\necho 'cgroups in hybrid mode not supported' >&2\nexit 1\n", { mode: 0o755 });
  const script = `mount --bind ${broken} /usr/bin/crun && exec "$0" "$@"`;
  return ["unshare", "--mount", "sh", "-c", script, ...argv];
}

describe("start", { skip: !root }, () => {
  const directory = place();
  const data = join(directory, "data");
  const start = [join(installation, "ebb"), "start", "--data", data, "--listen", "127.0.0.1:0"];

  /** What it says to its end: by Ctrl-C, when `whenSaid` is over, and that was all there was. */
  async function started(
    argv: readonly string[],
    words: RegExp,
    whenSaid?: (said: string) => Promise<void>,
  ): Promise<string> {
    const [command = "", ...args] = argv;
    // Of the user behind sudo; the rest of the data directory is root's.
    const env = { ...process.env, SUDO_UID: "65534", SUDO_GID: "65534" };
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "exit");
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
    try {
      while (!words.test(said)) {
        assert.equal(child.exitCode, null, said);
        await once(child.stdout, "data");
      }
      await whenSaid?.(said);
    } finally {
      child.kill("SIGINT");
      await ended;
    }
    assert.deepEqual([child.exitCode, child.signalCode], [0, null]);
    return said;
  }

  test("deploys hello the first time, says where it answers and what to try, and only then", async () => {
    const first = await started(start, /try: .*\n/);
    const [ready = "", where = "", next = ""] = first.split("\n");
    const port = /^ready http:\/\/127\.0\.0\.1:(\d+)$/.exec(ready)?.[1];
    assert.equal(where, `hello answers at http://hello.localhost:${port}`);
    assert.equal(next, `try: curl http://hello.localhost:${port}`);
    const { mode, uid, gid } = statSync(join(data, "credentials.json"));
    assert.deepEqual([mode & 0o777, uid, gid], [0o600, 65_534, 65_534]);
    const credentials = JSON.parse(readFileSync(join(data, "credentials.json"), "utf8")) as Record<string, string>;
    assert.deepEqual(Object.keys(credentials), ["url", "token"]);
    assert.match(credentials["url"]!, new RegExp(`^http://(localhost|127\\.0\\.0\\.1):${port}$`));
  });

  test("says the second time where it is; where crun cannot start a sandbox, runc serves", async (t) => {
    if (!bothEngines) t.diagnostic("needs both engines: only that it says where it is was looked at");
    const argv = [...start, "--json"];
    const second = await started(
      bothEngines ? withoutCrun(join(directory, "crun"), argv) : argv,
      /\n/,
      async (said) => {
        const port = Number(/:(\d+)"/.exec(said)?.[1]);
        const { status, text: body } = await fetchFrom(port, "hello.localhost", "/");
        assert.equal(status, 200, body);
      },
    );
    assert.match(second, /^\{"ready":"http:\/\/127\.0\.0\.1:\d+"\}\n$/);
  });
});

test(
  "--isolation none serves without root: loopback only, and ls says that nothing is isolated; what wants the machine's Python is refused where there is none, with what to install",
  { skip: !root },
  async () => {
    const directory = place();
    const data = join(directory, "data");
    mkdirSync(join(directory, "app"));
    // As ebb's own package.json stands above the default data directory.
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
    writeFileSync(
      join(directory, "app/index.js"),
      "module.exports = (req, res) => { console.log('plain'); res.end(String(process.getuid())); };",
    );
    const child = asNobody(["up", "--data", data, "--listen", "127.0.0.1:0", "--isolation", "none"]);
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
      const ebb = (...args: string[]): Promise<CommandResult> =>
        runInProcess(args, { environment: { ...process.env, EBB_DATA: data } });
      const deployed = await ebb("deploy", join(directory, "app"), "--public");
      assert.equal(deployed.code, 0, deployed.stderr + said);
      const invoked = await ebb("invoke", "app", "--json");
      assert.equal(invoked.code, 0, invoked.stderr + said);
      assert.equal((JSON.parse(invoked.stdout) as { body: string }).body, "65534");
      const { url, token } = JSON.parse(readFileSync(join(data, "credentials.json"), "utf8")) as Record<
        "url" | "token",
        string
      >;
      const client = createClient({ url, token, send });
      assert.deepEqual(
        (await client.workloads.list("default")).map(({ isolation }) => isolation),
        ["none"],
      );
      assert.match((await ebb("ls")).stdout, /not isolated/);
      await eventually("its line is in the log", async () =>
        (await client.logs("default", { workload: "app" })).some(({ message }) => message === "plain"),
      );
      const refused = await ebb("deploy", join(installation, "examples/python-text"));
      assert.equal(refused.code, 1);
      assert.match(
        refused.stderr,
        /^[^\n]*there is no \/usr\/bin\/python3[^\n]*sudo apt-get install -y python3[^\n]*\n$/,
      );
    } finally {
      await terminated(child);
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
