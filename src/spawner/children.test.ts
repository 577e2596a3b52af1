// Programs are started by posix_spawn(3), and the same by Node.

import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Children, type Child } from "./children.ts";
import { Sealed } from "./sealed.ts";
import { createSyscalls } from "./syscalls.ts";

let folder: string;
before(() => {
  // As the processes of the room do first.
  createSyscalls().closeOnExec();
  folder = mkdtempSync(join(tmpdir(), "ebb-children-"));
});
after(() => rmSync(folder, { recursive: true }));

const there = new Children().by === "posix_spawn";
const skip = there ? false : "node:ffi is not here";

for (const ffi of [true, false]) {
  const children = new Children({ ffi });
  const name = ffi ? "posix_spawn" : "node";

  /** What a shell says, at most 64 KiB of it. */
  async function say(script: string, more: Partial<Parameters<Children["start"]>[0]> = {}): Promise<[Child, string]> {
    const out = join(folder, `${name}.out`);
    const fd = openSync(out, "w");
    try {
      const child = await children.start({
        path: "/bin/sh",
        argv: ["a shell", "-c", script],
        env: { WORD: "a b\nä" },
        cwd: folder,
        stdio: ["ignore", fd, fd],
        ...more,
      });
      await child.exit;
      return [child, readFileSync(out, "utf8")];
    } finally {
      closeSync(fd);
    }
  }

  test(
    `${name}: a program has its arguments, environment, folder and descriptors, and no others`,
    { skip: ffi && skip },
    async () => {
      const secret = openSync("/proc/self/status", "r");
      const script =
        'echo "$0|$WORD|$PWD"; read -r line || echo nothing; ls -l /proc/self/fd; tr "\\0" "|" </proc/self/environ';
      const [child, said] = await say(script).finally(() => closeSync(secret));
      assert.deepEqual(await child.exit, { code: 0, signal: null });
      assert.match(said, new RegExp(`^a shell\\|a b\\nä\\|${folder}\\nnothing\\n`));
      // Those of `ls` itself: its streams, and the folder that it lists.
      assert.deepEqual(
        [...said.matchAll(/ ([0-9]+) -> /g)].map((match) => match[1]),
        ["0", "1", "2", "3"],
      );
      assert.match(said, /WORD=a b\nä\|/);
      assert.doesNotMatch(said, /HOME=|NODE/);
    },
  );

  test(
    `${name}: it leads a session of its own, with every signal as the system has it`,
    { skip: ffi && skip },
    async () => {
      const [child, said] = await say("cut -d' ' -f5,6 /proc/$$/stat; grep -E '^Sig(Blk|Ign)' /proc/self/status");
      assert.equal(said.split("\n")[0], `${child.pid} ${child.pid}`);
      for (const kind of ["Blk", "Ign"]) assert.match(said, new RegExp(`Sig${kind}:\t0+\n`));
    },
  );

  test(`${name}: its end is known, by code or signal`, { skip: ffi && skip }, async () => {
    const ends = await Promise.all(
      ["exit 7", "kill -TERM $$", "kill -KILL $$"].map(async (script) => (await say(script))[0]),
    );
    assert.ok(ends.every(({ gone }) => gone));
    assert.deepEqual(await Promise.all(ends.map(({ exit }) => exit)), [
      { code: 7, signal: null },
      { code: null, signal: "SIGTERM" },
      { code: null, signal: "SIGKILL" },
    ]);
  });

  test(`${name}: many that end at once are all known, and so is one that lives`, { skip: ffi && skip }, async () => {
    const program = { path: "/bin/sleep", env: {}, cwd: "/", stdio: ["ignore", "ignore", "ignore"] as const };
    const long = await children.start({ ...program, argv: ["sleep", "600"] });
    const short = await Promise.all(
      Array.from({ length: 20 }, async () => children.start({ ...program, argv: ["sleep", "0"] })),
    );
    try {
      for (const { exit } of short) assert.deepEqual(await exit, { code: 0, signal: null });
      assert.equal(long.gone, false);
    } finally {
      process.kill(long.pid, "SIGKILL");
    }
    assert.deepEqual(await long.exit, { code: null, signal: "SIGKILL" });
  });

  test(`${name}: what cannot be started is refused`, { skip: ffi && skip }, async () => {
    await assert.rejects(say("true", { path: join(folder, "nothing") }));
    await assert.rejects(say("true", { cwd: join(folder, "nothing") }));
    await assert.rejects(say("true\0false"));
  });
}

test(
  "an engine runs from memory under its own name, cannot be changed there, and is copied again when it was upgraded",
  { skip },
  async () => {
    const program = join(folder, "engine");
    const copy = (from: string): void => {
      rmSync(program, { force: true });
      writeFileSync(program, readFileSync(from), { mode: 0o755 });
    };
    copy("/bin/sleep");
    const sealed = new Sealed(join(folder, "names"), createSyscalls());
    const path = sealed.of(program);
    assert.notEqual(path, program);
    assert.equal(sealed.of(program), path);
    const stdio = ["ignore", "ignore", "ignore"] as const;
    const child = await new Children().start({ path, argv: [program, "600"], env: {}, cwd: "/", stdio });
    try {
      const name = (): string => readFileSync(`/proc/${child.pid}/comm`, "latin1");
      // It is given just behind the moment from which on its parent goes on.
      for (const own = readFileSync("/proc/self/comm", "latin1"); name() === own;) await nextTurn();
      assert.equal(name(), "engine\n");
      assert.match(readlinkSync(`/proc/${child.pid}/exe`), /^\/memfd:/);
    } finally {
      process.kill(child.pid, "SIGKILL");
    }
    await child.exit;
    assert.throws(() => writeFileSync(readlinkSync(path), "x", { flag: "r+" }), /EPERM|EACCES|ETXTBSY/);
    copy("/bin/true");
    const other = await new Children().start({
      path: sealed.of(program),
      argv: [program, "600"],
      env: {},
      cwd: "/",
      stdio,
    });
    assert.deepEqual(await other.exit, { code: 0, signal: null });
    // Where there is no such memory, it is the program itself.
    assert.equal(new Sealed(join(folder, "none"), createSyscalls({ ffi: false })).of(program), program);
  },
);
