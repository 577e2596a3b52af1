// What makes loading faster, in a real ebb. Compiled code of a deploy's load check: where the starts after it read it, who cannot
// write it, and what a hostile check gets for its trouble. And bundles.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { type Daemon, endDeployed, eventually, folderOf, removeDirectory, startDeployed } from "./fixture.ts";
import { keptOf, tellsNonsense } from "./told-caches.ts";

/** Much to compile, and all of it called while it loads: what V8 keeps of it is worth a layer. */
const large = Array.from(
  { length: 900 },
  (
    _,
    i,
  ) => `exports.f${i} = (a) => { const text = "${i}".padEnd(40, "x"); return [a, text, a + ${i}].map(String).join("${i}"); };
exports.f${i}(1);`,
).join("\n");
const largePython = Array.from(
  { length: 900 },
  (_, i) =>
    `def f${i}(a):\n    text = "${i}".ljust(40, "x")\n    return "${i}".join(str(x) for x in [a, text, a + ${i}])\n`,
).join("\n");

const asks = `import module from "node:module"; import fs from "node:fs"; import { spawnSync } from "node:child_process";
import large from "./large.cjs";
const folder = "/var/task/.ebb/cache";
function attempt(write) { try { write(); return "written"; } catch (error) { return error.code; } }
export default (request) => {
  const path = new URL(request.url).pathname;
  if (path === "/where") return Response.json({ dir: module.getCompileCacheDir() ?? null, f: large.f7(1) });
  if (path === "/write") return Response.json([
    attempt(() => fs.writeFileSync(folder + "/new", "x")),
    attempt(() => fs.writeFileSync(module.getCompileCacheDir() + "/" + fs.readdirSync(module.getCompileCacheDir())[0], "x")),
    attempt(() => fs.unlinkSync(module.getCompileCacheDir() + "/" + fs.readdirSync(module.getCompileCacheDir())[0])),
  ]);
  // The same Node in the same sandbox, with its own words on what it makes of the cache.
  const env = { ...process.env, NODE_DEBUG_NATIVE: "COMPILE_CACHE", NODE_COMPILE_CACHE: folder };
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", 'require("/var/task/large.cjs")'], { env, encoding: "utf8" });
  return new Response(stdout + stderr);
};`;

const files = {
  "ebb.yaml": `functions:
  node: { source: ./node, public: true, memoryMb: 128, idleSeconds: 0 }
  own: { source: ./node, public: true, memoryMb: 128, idleSeconds: 0, env: { NODE_COMPILE_CACHE: /tmp/own } }
  small: { source: ./small, public: true, memoryMb: 128, idleSeconds: 0 }
  python: { source: ./python, public: true, memoryMb: 128, idleSeconds: 0 }
`,
  "node/index.mjs": asks,
  "node/large.cjs": large,
  "small/index.mjs": `import module from "node:module"; import fs from "node:fs";
export default () => Response.json({ dir: module.getCompileCacheDir() ?? null, tree: fs.readdirSync(".") });`,
  "python/main.py": `import large
def handler(event, context):
    return {"statusCode": 200, "body": large.f7(1) + " " + large.__cached__}
`,
  "python/large.py": largePython,
};

const code = folderOf(files);
let daemon: Daemon;

before(async () => {
  daemon = await startDeployed(code);
});
after(() => endDeployed(daemon, code));

const kept = (project?: string): Record<string, string[]> => keptOf(daemon, project);

async function ask(name: string, path = "/"): Promise<string> {
  const { status, text } = await daemon.fetch(`${name}.localhost`, path);
  assert.equal(status, 200, text);
  return text;
}

test("a start reads what the load check compiled, and Node accepts it", async () => {
  const where = JSON.parse(await ask("node", "/where")) as { dir: string; f: string };
  assert.match(where.dir, /^\/var\/task\/\.ebb\/cache\/v26\..*-1000$/);
  assert.match(where.f, /^17/);
  const words = await ask("node", "/child");
  assert.match(words, /large\.cjs.* was accepted/);
  assert.doesNotMatch(words, /was rejected/);
});

test("from inside nobody writes it", async () => {
  assert.deepEqual(JSON.parse(await ask("node", "/write")), ["EROFS", "EROFS", "EROFS"]);
});

test("a function whose author speaks of NODE_COMPILE_CACHE has its own way", async () => {
  assert.equal((JSON.parse(await ask("own", "/where")) as { dir: string | null }).dir, null);
});

test("a small function has nothing of it", async () => {
  assert.deepEqual(JSON.parse(await ask("small")), { dir: null, tree: ["index.mjs"] });
});

test("what another version of Node made is ignored", async () => {
  const [folder] = Object.entries(kept()).find(([, [file]]) => file?.includes("/.ebb/"))!;
  const cache = join(folder, ".ebb/cache");
  const [version] = readdirSync(cache);
  renameSync(join(cache, version!), join(cache, "v27.0.0-x64-0badc0de-1000"));
  try {
    const where = JSON.parse(await ask("node", "/where")) as { dir: string | null; f: string };
    assert.equal(where.dir, null);
    assert.match(where.f, /^17/);
  } finally {
    renameSync(join(cache, "v27.0.0-x64-0badc0de-1000"), join(cache, version!));
  }
});

test("what is damaged is not taken for code", async () => {
  const file = Object.values(kept())
    .flat()
    .filter((path) => path.includes("/.ebb/"))
    .toSorted((a, b) => lstatSync(b).size - lstatSync(a).size)[0]!;
  const whole = readFileSync(file);
  const damaged = Buffer.from(whole);
  for (let at = 64; at < damaged.length; at += 97) damaged[at]! ^= 0xff;
  writeFileSync(file, damaged);
  try {
    assert.match(await ask("node", "/child"), /large\.cjs.* (mismatch|rejected)/);
    assert.match((JSON.parse(await ask("node", "/where")) as { f: string }).f, /^17/);
  } finally {
    writeFileSync(file, whole);
  }
});

test("Python takes its bytecode from it", async () => {
  const [, cached] = (await ask("python")).split(" ");
  assert.match(cached!, /^\/var\/task\/__pycache__\/large\.cpython-3\d+\.pyc$/);
  const file = Object.values(kept())
    .flat()
    .find((path) => path.includes("large.cpython"))!;
  // Other bytecode under its name shows that this is what runs, without a look at the source.
  const other = largePython.replace('"7".join', '"other".join');
  const script = `import sys, marshal
head = open(sys.argv[1], "rb").read(16)
sys.stdout.buffer.write(head + marshal.dumps(compile(sys.stdin.read(), "/var/task/large.py", "exec")))`;
  const bytes = execFileSync("/usr/bin/python3", ["-I", "-c", script, file], { input: other });
  writeFileSync(`${file}.new`, bytes);
  renameSync(`${file}.new`, file);
  assert.match(await ask("python"), /^1other7/);
});

test("a check that tells nonsense instead gets nothing, and its function serves", async () => {
  // An archive that is refused, and more than is heard. More of archives and names: src/builds/load-cache.test.ts, load-cache.soak.ts.
  await tellsNonsense(daemon, ["shadow", "flood"]);
  assert.deepEqual(readdirSync(join(daemon.directory, "load-caches")), ["default"]);
});

test("a check's scratch folder that is filled with links, folders and much else fails no deploy", async () => {
  const folder = folderOf({
    "index.mjs": `import fs from "node:fs"; import "./large.cjs";
const scratch = "/tmp/.ebb-compile-cache";
for (const version of fs.existsSync(scratch) ? fs.readdirSync(scratch) : []) {
  fs.symlinkSync("/etc/passwd", scratch + "/" + version + "/abc");
  fs.symlinkSync("/dev/zero", scratch + "/" + version + "/abd");
  fs.mkdirSync(scratch + "/" + version + "/abe");
  fs.writeFileSync(scratch + "/" + version + "/abf", Buffer.alloc(48 * 1024 * 1024));
}
export default () => new Response("served");`,
    "large.cjs": large,
  });
  const before = Object.keys(kept());
  try {
    const { code: exit, stderr } = await daemon.ebb(["deploy", folder, "--name", "filled", "--public"]);
    assert.equal(exit, 0, stderr);
    assert.equal(await ask("filled"), "served");
    assert.deepEqual(Object.keys(kept()), before);
  } finally {
    removeDirectory(folder);
  }
});

test("the same code in another project has its own, which goes with the project", async () => {
  assert.deepEqual(kept("other"), {});
  assert.equal((await daemon.ebb(["projects", "create", "other"])).code, 0);
  const same = folderOf({ "index.mjs": asks, "large.cjs": large });
  const { code: exit, stderr } = await daemon.ebb(["deploy", same, "--name", "node", "--project", "other"]);
  removeDirectory(same);
  assert.equal(exit, 0, stderr);
  const inode = (project: string): number[] =>
    Object.values(kept(project))
      .flat()
      .map((path) => lstatSync(path).ino);
  const names = (project: string): string[] => Object.keys(kept(project)).map((path) => basename(path));
  const [name] = names("other");
  assert.ok(names("other").length === 1 && names("default").includes(name!), "of the very same code");
  assert.deepEqual(
    inode("other").filter((ino) => inode("default").includes(ino)),
    [],
  );
  const { code: removed, stderr: why } = await daemon.ebb(["projects", "rm", "other", "--yes"]);
  assert.equal(removed, 0, why);
  assert.deepEqual(kept("other"), {});
});

test("a bundled function serves from one file, and its errors show the author's lines", async () => {
  const folder = folderOf({
    "ebb.yaml": `functions:
  bundled: { source: ./fn, public: true, memoryMb: 128, idleSeconds: 0, bundle: true }
`,
    "fn/index.ts": `import large from "large"; import fs from "node:fs";
interface Answer { f: string; file: string }
export default (request: Request) => {
  if (new URL(request.url).pathname === "/fail") throw new Error("on line 4");
  const answer: Answer = { f: large.f7(1), file: fs.realpathSync("index.ts") };
  return Response.json(answer);
};`,
    "fn/node_modules/large/package.json": '{ "name": "large", "main": "large.js" }',
    "fn/node_modules/large/large.js": large,
  });
  try {
    const before = Object.keys(kept()).length;
    const { code: exit, stderr } = await daemon.ebb(["deploy", folder]);
    assert.equal(exit, 0, stderr);
    assert.equal(Object.keys(kept()).length, before + 1, "what it compiled is kept, though it is little");
    const { f, file } = JSON.parse(await ask("bundled")) as { f: string; file: string };
    assert.match(f, /^17/);
    assert.equal(file, "/var/task/index.bundle.cjs");
    assert.equal((await daemon.fetch("bundled.localhost", "/fail")).status, 500);
    await eventually("the log shows the author's line", async () => {
      const { stdout } = await daemon.ebb(["logs", "bundled"]);
      return /on line 4/.test(stdout) && /index\.ts:4:/.test(stdout);
    });
  } finally {
    removeDirectory(folder);
  }
});

test("a bundle of what is no Node function is refused", async () => {
  const folder = folderOf({
    "ebb.yaml": "functions:\n  snake: { source: ./fn, bundle: true }\n",
    "fn/main.py": "def handle(event, context):\n    return 1\n",
  });
  try {
    const { code: exit, stderr } = await daemon.ebb(["deploy", folder]);
    assert.equal(exit, 1);
    assert.match(stderr, /bundle: true is for Node, and snake was recognised as python3/);
  } finally {
    removeDirectory(folder);
  }
});
