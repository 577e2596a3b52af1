// Runs the session of README's first page word for word, and then waits for zero as it says.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { installation } from "#config.ts";
import { eventually, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";

let daemon: Daemon;

before(async () => {
  daemon = await startDaemon();
  // What `npm start` does on a first start.
  assert.equal((await daemon.ebb(["deploy", join(installation, "examples/hello")])).code, 0);
});

after(async () => {
  await daemon?.stop();
  if (daemon) removeDirectory(daemon.directory);
});

interface Step {
  readonly command: string;
  /** Lines of which each must be found, in order; `…` stands for anything. */
  readonly expected: readonly string[];
}

function readSession(): Step[] {
  const readme = readFileSync(join(installation, "README.md"), "utf8");
  const block = /```console\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  const steps: Array<{ command: string; expected: string[] }> = [];
  for (const line of block.trim().split("\n")) {
    if (line.startsWith("$ ")) steps.push({ command: line.slice(2), expected: [] });
    else steps.at(-1)?.expected.push(line);
  }
  return steps;
}

function pattern(line: string): RegExp {
  return new RegExp(
    line
      .split("…")
      .map((part) =>
        part
          .trim()
          .replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
          .replaceAll(/\s+/g, String.raw`\s+`),
      )
      .join(".*"),
  );
}

/** A person's shell, with ebb told of this test's daemon and curl of its port; `-f` is ended when its lines have come. */
async function run(step: Step): Promise<void> {
  const command = step.command.replaceAll(":8080", `:${daemon.port}`);
  const child = spawn("/bin/sh", ["-c", `exec ${command}`], {
    cwd: installation,
    env: { ...process.env, EBB_DATA: daemon.directory },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (errors += chunk));
  let code: number | null | undefined;
  child.once("exit", (exit) => (code = exit));
  const matches = (): boolean =>
    step.expected.every((line) => pattern(line.replaceAll(":8080", `:${daemon.port}`)).test(output));
  const following = / -f\b/.test(command);
  await eventually(`${step.command}\nexpected:\n${step.expected.join("\n")}\nfound:\n`, () =>
    Promise.resolve(following ? matches() : code !== undefined),
  ).catch((error: unknown) => assert.fail(`${String(error)}${output}${errors}`));
  child.kill("SIGTERM");
  if (!following) assert.equal(code, 0, `${step.command}: ${output}${errors}`);
  assert.ok(matches(), `${step.command}\nexpected:\n${step.expected.join("\n")}\nfound:\n${output}${errors}`);
}

const steps = readSession();

test("README has a session", () => {
  assert.ok(steps.length >= 7, String(steps.length));
});

for (const step of steps) test(`README: ${step.command}`, () => run(step));

test("with its idle time shortened, hello is asleep soon after and ls shows zero instances", async () => {
  assert.equal((await daemon.fetch("hello.localhost", "/")).status, 200);
  // `restart` lets every instance go; the wait of a minute itself is the bench's and the soak's.
  assert.equal((await daemon.ebb(["restart", "hello"])).code, 0);
  await eventually("hello is asleep", async () => {
    const rows = await daemon.client.workloads.list("default");
    return rows.find((row) => row.name === "hello")?.instances === 0;
  });
  assert.match((await daemon.ebb(["ls"])).stdout, /hello.*asleep/);
});
