// Folders that serve again: what was in one before is seen by nobody, and none is ever without its note.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { KeptFolders, writeDurably } from "./kept-folders.ts";

let directory: string;
before(() => void (directory = mkdtempSync(join(tmpdir(), "ebb-kept-"))));
after(() => rmSync(directory, { recursive: true, force: true }));

const named = (): string[] => readdirSync(directory).filter((name) => !name.startsWith("."));
const note = (folder: string): string => readFileSync(join(folder, "note.json"), "utf8");

test("a forgotten folder is the next one's, with its own note alone", async () => {
  const folders = new KeptFolders(directory, 2);
  const first = folders.make("first", JSON.stringify({ of: "the first, which says more" }));
  const { ino } = statSync(first);
  writeFileSync(join(first, "log.0000000001"), "its output");
  writeFileSync(join(first, "result"), "its result");
  await writeDurably(join(first, "end.json"), JSON.stringify({ how: "it ended in a long sentence" }));
  const { ino: endFile } = statSync(join(first, "end.json"));
  folders.forget("first");
  assert.deepEqual(named(), []);
  const second = folders.make("second", "{}");
  assert.equal(statSync(second).ino, ino);
  assert.equal(note(second), "{}");
  assert.deepEqual(readdirSync(second).toSorted(), ["end.json.new", "note.json"]);
  await writeDurably(join(second, "end.json"), "{}");
  assert.equal(readFileSync(join(second, "end.json"), "utf8"), "{}");
  assert.equal(statSync(join(second, "end.json")).ino, endFile);
  folders.forget("second");
});

test("no more are held than may be, those of an earlier process are, and one without an end is removed", async () => {
  const folders = new KeptFolders(directory, 2);
  const names = ["a", "b", "c", "d"];
  for (const name of names) folders.make(name, name);
  for (const name of ["a", "b", "c"]) await writeDurably(join(directory, name, "end.json"), name);
  for (const name of names) folders.forget(name);
  assert.deepEqual(named(), []);
  assert.equal(readdirSync(directory).length, 2);
});

test("one that is damaged is replaced", () => {
  for (const name of readdirSync(directory)) {
    rmSync(join(directory, name), { recursive: true });
    writeFileSync(join(directory, name), "no folder");
  }
  const folders = new KeptFolders(directory, 2);
  for (const name of ["e", "f", "g"]) assert.equal(note(folders.make(name, name)), name);
  assert.equal(readdirSync(directory).length, 3);
  assert.ok(named().every((name) => existsSync(join(directory, name, "note.json"))));
});

test("one that cannot be made leaves nothing, and says why", () => {
  const before = readdirSync(directory).length;
  const folders = new KeptFolders(directory, 0);
  const taken = folders.make("taken", "one");
  writeFileSync(join(taken, "log.0000000001"), "in the way of a rename");
  for (let n = 0; n < 3; n++) assert.throws(() => folders.make("taken", "two"), /ENOTEMPTY|EEXIST/);
  assert.equal(note(taken), "one");
  assert.equal(readdirSync(directory).length, before + 1);
});
