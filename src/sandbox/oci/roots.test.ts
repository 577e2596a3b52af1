// Read-only roots: the libraries that go into them, and what is kept of them from one start of ebb to the next.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { sandboxLimits } from "#model/limits.ts";
import { compilePython } from "./bytecode.ts";
import { librariesOf, readElf } from "./closure.ts";
import { Roots } from "./roots.ts";

const exec = promisify(execFile);
const python = "/usr/bin/python3";

test("the libraries of many programs are asked for in one go: each once, and one that is no program is named", async (t) => {
  if (process.platform !== "linux") return t.skip("not Linux");
  const loader = (await readElf(process.execPath))!.interpreter!;
  let asked = 0;
  const run = async ([program, ...args]: readonly string[]) => {
    asked += 1;
    return { code: 0, stdout: (await exec(program!, args)).stdout };
  };
  const [ofNode, ofShell] = [
    await librariesOf([process.execPath], loader, run),
    await librariesOf(["/bin/sh"], loader, run),
  ];
  asked = 0;
  const ofBoth = await librariesOf(["/bin/sh", process.execPath], loader, run);
  assert.equal(asked, 1);
  assert.ok(ofNode.some((path) => path.includes("/libstdc++.so")));
  assert.deepEqual(ofBoth.toSorted(), [...new Set([...ofNode, ...ofShell])].toSorted());
  const folder = mkdtempSync(join(tmpdir(), "ebb-libraries-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const none = join(folder, "it's none");
  writeFileSync(none, "#!/bin/sh\n");
  await assert.rejects(librariesOf(["/bin/sh", none], loader, run), {
    message: new RegExp(`libraries of ${none} cannot`),
  });
});

test("a root that nothing was started from for long goes, and none that is used, or that something alive stands in", async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ebb-roots-"));
  t.after(() => rmSync(place, { recursive: true }));
  const [folder, runDir] = [join(place, "roots"), join(place, "run")];
  const nowMs = 1_800_000_000_000;
  const longAgo = nowMs / 1_000 - sandboxLimits.rootUnusedDays * 86_400 - 60;
  for (const [name, used] of [
    ["old", longAgo],
    ["inherited", longAgo],
    ["recent", longAgo + 120],
    [".half", nowMs / 1_000],
    ["empty", longAgo],
  ] as const) {
    mkdirSync(join(folder, name, "usr"), { recursive: true });
    utimesSync(join(folder, name), used, used);
  }
  mkdirSync(join(runDir, "roots", "inherited"), { recursive: true });
  const unused = (): never => assert.fail("nothing is made");
  const roots = new Roots({
    folder,
    runDir,
    spawner: { exec: unused, make: unused },
    node: unused,
    shims: "/nowhere",
  });
  await roots.start(nowMs);
  assert.deepEqual(readdirSync(folder).toSorted(), ["empty", "inherited", "recent"]);
});

test("the Python shim of a root comes as bytecode, which Python takes as it is", async (t) => {
  if (!existsSync(python)) return t.skip("no Python here");
  const root = mkdtempSync(join(tmpdir(), "ebb-bytecode-"));
  t.after(() => rmSync(root, { recursive: true }));
  const folder = join(root, "runtime/python");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "ebb_one.py"), "where = __file__\n");
  await compilePython(root, python, ([program, ...args]) => exec(program!, args));
  // Never read again: in a root it cannot have changed.
  writeFileSync(join(folder, "ebb_one.py"), "where = None\n");
  const script = "import sys; sys.path.insert(0, sys.argv[1]); import ebb_one; print(ebb_one.where is not None)";
  const { stdout } = await exec(python, ["-I", "-S", "-B", "-c", script, folder]);
  assert.equal(stdout.trim(), "True");
});
