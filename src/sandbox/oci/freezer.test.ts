// How the freezer's file is written: at once where that never waits, and in the order of the calls where it may.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Freezer } from "./freezer.ts";

function freezerOf(t: TestContext, version: 1 | 2): { freezer: Freezer; state: () => string } {
  const folder = mkdtempSync(join(tmpdir(), "ebb-freezer-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "state");
  writeFileSync(path, "-");
  const freeze = (_id: string, frozen: boolean) => ({ kind: "write" as const, path, value: frozen ? "1" : "0" });
  return { freezer: new Freezer({ version, freeze }, "s1"), state: () => readFileSync(path, "latin1") };
}

test("by version 1 it is written when the call returns", (t) => {
  const { freezer, state } = freezerOf(t, 1);
  void freezer.set(true);
  assert.equal(state(), "1");
  void freezer.set(false);
  assert.equal(state(), "0");
  freezer.close();
});

test("by version 2 the caller does not wait, the order holds, and the file is closed after the last", async (t) => {
  const { freezer, state } = freezerOf(t, 2);
  for (let round = 0; round < 50; round++) {
    const all = [freezer.set(true), freezer.set(false), freezer.set(true)];
    const last = freezer.set(round % 2 === 0);
    assert.ok(round > 0 || state() === "-", "nothing is written yet");
    if (round === 49) freezer.close();
    await last;
    assert.equal(state(), round % 2 === 0 ? "1" : "0");
    await Promise.all(all);
  }
});

test("a file that is not there rejects, and the next that is there is written", async (t) => {
  for (const version of [1, 2] as const) {
    const { freezer, state } = freezerOf(t, version);
    const absent = new Freezer(
      { version, freeze: () => ({ kind: "write", path: "/does/not/exist", value: "1" }) },
      "s2",
    );
    await assert.rejects(absent.set(true), { code: "ENOENT" });
    absent.close();
    await freezer.set(true);
    assert.equal(state(), "1");
    freezer.close();
  }
});
