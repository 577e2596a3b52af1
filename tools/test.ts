// Runs the tests. What takes long begins first: of the last files none is left to run alone for a minute.

import { globSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Twice the processors of a small machine: half of what a test does is to wait. */
const sideBySide = 4;
const testMs = 120_000;

/** By what they take, the longest first; the rest are a few seconds each. */
const long = [
  "test/runtimes/sandboxed.test.ts",
  "test/daemon/deaths.test.ts",
  "test/daemon/life.test.ts",
  "test/daemon/leaks.test.ts",
  "test/daemon/machine.test.ts",
  "src/sandbox/oci/oci.test.ts",
  "test/daemon/cli.test.ts",
  "test/daemon/isolation.test.ts",
  "src/cli/cli.test.ts",
  "test/daemon/up.test.ts",
  "src/network/network.test.ts",
];

const all = globSync("{src,runtimes,bench,test}/**/*.test.ts", { cwd: root }).toSorted();
const unknown = long.filter((file) => !all.includes(file));
if (unknown.length > 0) throw new Error(`tools/test.ts names what is no test: ${unknown.join(", ")}`);
// What starts daemons or sandboxes is long too.
const rest = all.filter((file) => !long.includes(file));
const files = [
  ...long,
  ...rest.filter((file) => !file.startsWith("src/")),
  ...rest.filter((file) => file.startsWith("src/")),
];

const execArgv = ["--import", new URL("ends.ts", import.meta.url).href];
const tests = run({ files, cwd: root, concurrency: sideBySide, timeout: testMs, execArgv });
tests.on("test:summary", ({ success }) => {
  if (!success) process.exitCode = 1;
});
tests.compose(new spec()).pipe(process.stdout);
