// The set-up of a bare machine, on one that is made for the test: the launcher and its script with a PATH of their own, where
// npm, apt-get and the pinned Node are doubles that note what they were asked.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { installation } from "#config.ts";

const made: string[] = [];
after(() => made.forEach((folder) => rmSync(folder, { recursive: true })));

const skip = process.platform !== "linux" && "a machine with Debian's programs";
const debian = `sh cat chmod cut dirname du env flock grep head mkdir mktemp readlink rm sleep sort tail touch tr uname`;
const pinned = `node_modules/node-linux-${process.arch === "arm64" ? "arm64" : "x64"}/bin/node`;
const withoutLibatomic = `[ -e $HOME/libatomic ] || { echo "error while loading shared libraries: libatomic.so.1" >&2; exit 127; }\n`;

class Machine {
  readonly #root = mkdtempSync(join(tmpdir(), "ebb-setup-"));
  readonly #bin = join(this.#root, "bin");
  readonly #calls = join(this.#root, "calls");
  readonly clone = join(this.#root, "clone");

  /** A Debian with a clone of ebb, as `uid`, and nothing else. */
  constructor(uid = 0) {
    made.push(this.#root);
    for (const folder of [this.#bin, join(this.clone, "tools")]) mkdirSync(folder, { recursive: true });
    for (const file of ["ebb", "tools/setup.sh", "package-lock.json"])
      copyFileSync(join(installation, file), join(this.clone, file));
    this.#age("package-lock.json", 100);
    for (const name of debian.split(" ")) {
      const at = ["/usr/bin", "/bin"].map((folder) => join(folder, name)).find((path) => existsSync(path));
      assert.ok(at, `this machine has no ${name}`);
      symlinkSync(at, join(this.#bin, name));
    }
    writeFileSync(join(this.#bin, "id"), `#!/bin/sh\necho ${uid}\n`, { mode: 0o755 });
    writeFileSync(this.#calls, "");
  }

  /** A double that notes its call, and does what `script` says. */
  has(name: string, script: string): this {
    const noting = `#!/bin/sh\necho "${name} $*" >>"${this.#calls}"\n${script}\n`;
    writeFileSync(join(this.#bin, name), noting, { mode: 0o755 });
    return this;
  }

  /** npm, whose packages are a pinned Node that says how it was called; `before` may fail it, or hold it up. */
  hasNpm({ before = "", node = "" } = {}): this {
    const double = `#!/bin/sh\n${node}echo "$@"\n`;
    return this.has("node", "").has(
      "npm",
      `${before}\nmkdir -p ${dirname(pinned)}; cat >${pinned} <<'END'\n${double}END\nchmod 755 ${pinned}; touch node_modules/.package-lock.json`,
    );
  }

  /** What was written then is older now than what is written next. */
  #age(file: string, seconds: number): void {
    const then = new Date(Date.now() - seconds * 1_000);
    utimesSync(join(this.clone, file), then, then);
  }

  /** As after a `git pull` that brought other packages. */
  pulls(): void {
    for (const file of [".ebb-stamp", ".package-lock.json"]) this.#age(join("node_modules", file), 200);
  }

  start(...argv: string[]): ChildProcess {
    const env = { PATH: this.#bin, HOME: this.#root };
    return spawn(join(this.clone, "ebb"), argv, { cwd: this.#root, env, stdio: ["ignore", "pipe", "pipe"] });
  }

  ebb(...argv: string[]): ReturnType<typeof endOf> {
    return endOf(this.start(...argv));
  }

  calls(name: string): string[] {
    const lines = readFileSync(this.#calls, "utf8").trim().split("\n");
    return lines.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length + 1));
  }
}

async function endOf(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  const [out, err] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, "close")]);
  return { code: child.exitCode, out, err };
}

test(
  "the first command brings the packages, the next finds them, and others after a pull are brought too",
  { skip },
  async () => {
    const machine = new Machine().hasNpm();
    const first = await machine.ebb("ls");
    assert.equal(first.code, 0, first.err);
    assert.match(first.out, /src\/cli\.ts ls\n$/);
    assert.match(first.err, /^ebb set-up: npm packages and the pinned Node [^\n]*\nebb set-up: npm packages: done\n$/);
    assert.match(machine.calls("npm").join(), /^ci --ignore-scripts /);
    // By a link too, as `npm link` makes one.
    symlinkSync(join(machine.clone, "ebb"), join(machine.clone, "..", "linked"));
    const linked = await endOf(
      spawn(join(machine.clone, "..", "linked"), ["ls"], { stdio: ["ignore", "pipe", "pipe"] }),
    );
    assert.deepEqual([linked.code, linked.err], [0, ""]);
    assert.equal(machine.calls("npm").length, 1);
    machine.pulls();
    assert.equal((await machine.ebb("ls")).code, 0);
    assert.equal(machine.calls("npm").length, 2);
  },
);

test(
  "without npm, or when it fails, one sentence says what to do, and the next command tries again",
  { skip },
  async () => {
    const machine = new Machine();
    const without = await machine.ebb("start");
    assert.deepEqual([without.code, without.out], [1, ""]);
    assert.match(without.err, /^ebb set-up: npm is missing\. [^\n]*Node 20 [^\n]*try again\.\n$/);
    machine.hasNpm({ before: 'echo "npm error network" >&2; exit 1' });
    const offline = await machine.ebb("start");
    assert.deepEqual([offline.code, offline.out], [1, ""]);
    assert.match(offline.err, /npm error network\nebb set-up: npm ci failed, [^\n]*network[^\n]*try again\.\n$/);
    machine.hasNpm();
    assert.equal((await machine.ebb("ls")).code, 0);
  },
);

test("two commands at once on a fresh clone: one brings the packages, the other waits for them", { skip }, async () => {
  const machine = new Machine().hasNpm({ before: "while [ ! -e go ]; do sleep 0.05; done" });
  const first = machine.start("ls");
  await once(first.stderr!, "data");
  const second = machine.start("show");
  const ended = Promise.all([endOf(first), endOf(second)]);
  const [said] = (await once(second.stderr!, "data")) as [Buffer];
  assert.match(String(said), /^ebb set-up: another set-up is running here; waiting for it/);
  writeFileSync(join(machine.clone, "go"), "");
  const [one, other] = await ended;
  assert.deepEqual([one.code, other.code], [0, 0], one.err + other.err);
  assert.equal(machine.calls("npm").length, 1);
});

test("the library that the pinned Node is linked to is installed by root, and named to others", { skip }, async () => {
  const user = new Machine(1_000).hasNpm({ node: withoutLibatomic }).has("apt-get", "touch $HOME/libatomic");
  for (const times of [1, 2]) {
    const { code, err } = await user.ebb("ls");
    assert.equal(code, 1, `${times}`);
    assert.match(err, /As root: apt-get update && apt-get install -y libatomic1\n/);
    assert.match(err, /the pinned Node does not run here: [^\n]*libatomic\.so\.1\n$/);
  }
  assert.deepEqual([user.calls("npm").length, user.calls("apt-get")], [1, []], "the packages are there");
  const root = new Machine().hasNpm({ node: withoutLibatomic }).has("apt-get", "touch $HOME/libatomic");
  const { code, err } = await root.ebb("ls");
  assert.equal(code, 0, err);
  assert.match(root.calls("apt-get").join(), /install -y --no-install-recommends libatomic1$/);
});

test(
  "start installs what the machine lacks, after new package lists where the old ones do not know it",
  { skip },
  async () => {
    const machine = new Machine()
      .hasNpm()
      .has("apt-get", 'case "$*" in *update*) touch lists ;; *) [ -e lists ] ;; esac');
    const { code, out, err } = await machine.ebb("start");
    assert.equal(code, 0, err);
    assert.match(out, /src\/cli\.ts start\n$/);
    const [first, update, second, ...more] = machine.calls("apt-get");
    assert.match(first!, / install -y --no-install-recommends .*\bcrun\b.*\bcurl\b/);
    assert.match(update!, / update$/);
    assert.deepEqual([second, more], [first, []]);
    const words = err.split("\n").filter((line) => /Debian|lists/.test(line));
    assert.match(words[0]!, /^ebb set-up: Debian packages: crun .* …$/);
    assert.deepEqual(words.slice(1), [
      "ebb set-up: refreshing the package lists …",
      "ebb set-up: Debian packages: done",
    ]);
  },
);

test(
  "what cannot be installed is said with the reason, and ebb itself then says what it cannot do without",
  { skip },
  async () => {
    const machine = new Machine()
      .hasNpm()
      .has("apt-get", 'echo "E: Failed to fetch x  Temporary failure" >&2; exit 100');
    const offline = await machine.ebb("start");
    assert.equal(offline.code, 0, "the double's own");
    assert.match(offline.out, /src\/cli\.ts start\n$/);
    assert.match(
      offline.err,
      /\nE: Failed to fetch x {2}Temporary failure\nebb set-up: could not install crun [^\n]*try again\.\n$/,
    );
    const user = new Machine(1_000).hasNpm().has("apt-get", "exit 1");
    const unprivileged = await user.ebb("start");
    assert.match(
      unprivileged.err,
      /\nebb set-up: missing: crun [^\n]*As root: apt-get update && apt-get install -y crun [^\n]*\n$/,
    );
    assert.deepEqual(user.calls("apt-get"), []);
  },
);
