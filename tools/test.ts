// Runs the tests. What takes long begins first: of the last files none is left to run alone for a minute.

import { globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Twice the processors of a small machine: half of what a test does is to wait. */
const sideBySide = 4;
const testMs = 120_000;
/** Of the light files: each short enough that none is what the others wait for. */
const groupCount = 10;
/** Of a file in a group: before the group's own time is up, so that it is named. */
const memberMs = 100_000;

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
  "test/daemon/up.test.ts",
  "src/network/network.test.ts",
];

/** Rooms whose tests start sandboxes, mount, or wait for the disk: a file of theirs has a process of its own. */
const apart = new Set(["builds", "images", "network", "sandbox", "spawner", "store"]);

/** Of these, and of test/, those that do none of it. */
const startNothing = [
  ...["interpreters", "remove"].map((name) => `src/builds/${name}`),
  ...["build-output", "dockerfile", "manifest", "turns"].map((name) => `src/images/${name}`),
  ...["decide", "inherited", "openings", "pool", "problems", "subnet", "wire"].map((name) => `src/network/${name}`),
  ...["decisions", "early", "image-user", "program", "roots", "seccomp-filter", "waiter"].map(
    (name) => `src/sandbox/oci/${name}`,
  ),
  ...["fake/fake", "probe", "runtime-link"].map((name) => `src/sandbox/${name}`),
  ...["spawner/allocator", "spawner/run-root", "store/memory/memory"].map((name) => `src/${name}`),
  ...["lock", "rooms"].map((name) => `test/architecture/${name}`),
].map((name) => `${name}.test.ts`);

const all = globSync("{src,runtimes,bench,test}/**/*.test.ts", { cwd: root }).toSorted();
const unknown = [...long, ...startNothing].filter((file) => !all.includes(file));
if (unknown.length > 0) throw new Error(`tools/test.ts names what is no test: ${unknown.join(", ")}`);
// What starts daemons or sandboxes is long too.
const rest = all.filter((file) => !long.includes(file));
const light = rest.filter(
  (file) => startNothing.includes(file) || (file.startsWith("src/") && !apart.has(file.split("/")[1] ?? "")),
);

// Most of what a light one takes is the start of a process and the modules of its room: those of a group share one. What is left
// running names the group alone: each file by itself (node --test FILE) tells whose it is.
const together = mkdtempSync(join(tmpdir(), "ebb-tests-"));
process.once("exit", () => rmSync(together, { recursive: true }));
const groups = Array.from({ length: groupCount }, (_, i) => {
  const [from, to] = [i, i + 1].map((edge) => Math.ceil((edge * light.length) / groupCount));
  return groupOf(`${i + 1}`, light.slice(from, to));
});
const files = [
  ...long,
  ...rest.filter((file) => !file.startsWith("src/") && !light.includes(file)),
  ...groups,
  ...rest.filter((file) => file.startsWith("src/") && !light.includes(file)),
];

const execArgv = ["--import", new URL("ends.ts", import.meta.url).href];
const tests = run({ files, cwd: root, concurrency: sideBySide, timeout: testMs, execArgv });
tests.on("test:summary", ({ success }) => {
  if (!success) process.exitCode = 1;
});
tests.compose(new spec()).pipe(process.stdout);

/** A file that runs others one after the other, each a suite of its name with its own hooks. */
function groupOf(name: string, members: readonly string[]): string {
  const path = join(together, `light-${name}.test.mjs`);
  const suites = members.map((file) => {
    const url = pathToFileURL(join(root, file)).href;
    return `suite(${JSON.stringify(file)}, { timeout: ${memberMs} }, async () => void (await import(${JSON.stringify(url)})));\n`;
  });
  writeFileSync(path, `import { suite } from "node:test";\n${suites.join("")}`);
  return path;
}
