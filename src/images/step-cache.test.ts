// What is kept of the steps of builds: whose it is, when it goes, and what an end in the middle leaves.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { stepCacheLimits } from "#model/limits.ts";
import { StepCache, type StepCacheOptions } from "./step-cache.ts";

const parent = mkdtempSync(join(tmpdir(), "ebb-steps-"));
after(() => rmSync(parent, { recursive: true }));

const [one, other] = ["1", "2"].map((digit) => digit.repeat(64)) as [string, string];
let count = 0;

/** `sha256sum -- PATH`, and `sync`. */
async function summing([program, , path = ""]: readonly string[]) {
  const stdout = program === "sha256sum" ? execFileSync(program, ["--", path], { encoding: "utf8" }) : "";
  return { code: 0, stdout, stderr: "" };
}

async function started(folder = join(parent, String(++count)), over: Partial<StepCacheOptions> = {}) {
  const staging = join(folder, "staging");
  mkdirSync(staging, { recursive: true });
  const spawner = { exec: summing };
  const cache = new StepCache({ folder: join(folder, "steps"), spawner, clock: systemClock, ...over });
  await cache.start();
  const file = (name: string): string => join(staging, name);
  const keep = async (key: string, text: string, project = "default"): Promise<void> => {
    const path = file(`kept-${++count}`);
    writeFileSync(path, text);
    await cache.of(project, true).keep(key, { digest: `sha256:${text}`, bytes: text.length, path });
  };
  const take = (key: string, project = "default", takes = true): Promise<string | null> =>
    cache.of(project, takes).take(key, file(`taken-${++count}`));
  const files = (): string[] => readdirSync(join(folder, "steps")).toSorted();
  return { folder, cache, file, keep, take, files };
}

test("what a project has kept is taken by it alone, by who wants to, and after a start as well", async () => {
  const { folder, cache, file, keep, take } = await started();
  await keep(one, "tar");
  assert.equal(await cache.of("default", true).take(one, file("mine")), "sha256:tar");
  assert.equal(readFileSync(file("mine"), "utf8"), "tar");
  assert.equal(await take(one, "another"), null);
  assert.equal(await take(one, "default", false), null);
  assert.equal(await take(other), null);
  await keep(one, "newer");
  await cache.stop();
  assert.equal(await (await started(folder)).take(one), "sha256:newer");
});

test("a project that is forgotten has nothing, and a build that began before keeps nothing for the next of its name", async () => {
  const { cache, file, keep, take, files } = await started();
  await keep(one, "a");
  await keep(other, "b", "another");
  const before = cache.of("default", true);
  await cache.forget("default");
  assert.equal(await take(one), null);
  writeFileSync(file("late"), "late");
  await before.keep(one, { digest: "sha256:late", bytes: 4, path: file("late") });
  assert.equal(await take(one), null);
  assert.equal(await take(other, "another"), "sha256:b");
  assert.deepEqual(files(), [`${other}.json`, `${other}.kept`]);
});

test("an end between any two steps leaves what is whole, and no file of the others", async () => {
  const { folder, cache, keep } = await started();
  await keep(one, "whole");
  await cache.stop();
  const steps = join(folder, "steps");
  const record = readFileSync(join(steps, `${one}.json`), "utf8");
  const with_ = (over: object): string => JSON.stringify({ ...JSON.parse(record), ...over });
  const names = ["3", "4", "5", "6", "7"].map((digit) => digit.repeat(64)) as [string, string, string, string, string];
  const [fileOnly, recordOnly, torn, otherName, otherBoot] = names;
  writeFileSync(join(steps, `${fileOnly}.kept`), "x");
  writeFileSync(join(steps, `${recordOnly}.json`), with_({ key: recordOnly }));
  for (const [key, text] of [
    [torn, record.slice(0, 20)],
    [otherName, record],
    // A power cut came before the disk had it.
    [otherBoot, with_({ key: otherBoot, boot: "earlier", synced: false })],
  ] as const) {
    writeFileSync(join(steps, `${key}.json`), text);
    writeFileSync(join(steps, `${key}.kept`), "x");
  }
  writeFileSync(join(steps, "x.json"), "{}");
  writeFileSync(join(steps, `${one}.half`), record.slice(0, 20));
  mkdirSync(join(steps, "folder"));
  const next = await started(folder);
  assert.deepEqual(next.files(), [`${one}.json`, `${one}.kept`]);
  assert.equal(await next.take(one), "sha256:whole");
  for (const key of names) assert.equal(await next.take(key), null);
});

for (const damaged of ["who", "whale"])
  test(`a file of which the disk has made "${damaged}" is not taken, and goes`, async () => {
    const { folder, cache, file, keep, files } = await started();
    await keep(one, "whole");
    writeFileSync(join(folder, "steps", `${one}.kept`), damaged);
    assert.equal(await cache.of("default", true).take(one, file("taken")), null);
    assert.ok(!existsSync(file("taken")));
    assert.deepEqual(files(), []);
  });

test("one whose sum cannot be had now is not taken, and stays", async () => {
  const { folder, cache, keep } = await started();
  await keep(one, "whole");
  await cache.stop();
  const down = { exec: () => Promise.reject(new Error("the spawner has died")) };
  assert.equal(await (await started(folder, { spawner: down })).take(one), null);
  assert.equal(await (await started(folder)).take(one), "sha256:whole");
});

test("what nobody has used for long goes, and what is used stays", async () => {
  let now = 1e12;
  const { cache, keep, take, files } = await started(undefined, { clock: { ...systemClock, wallMs: () => now } });
  await keep(one, "used");
  await keep(other, "unused");
  now += stepCacheLimits.unusedMs / 2 + 1;
  assert.notEqual(await take(one), null);
  now += stepCacheLimits.unusedMs / 2;
  await cache.collect();
  assert.deepEqual(files(), [`${one}.json`, `${one}.kept`]);
});

test("where the disk has no room all of it gives way; what was taken before stays where it was taken to", async () => {
  const { folder, cache, file, keep, files } = await started();
  await keep(one, "taken");
  await keep(other, "kept");
  await cache.of("default", true).take(one, file("mine"));
  assert.equal(await cache.room(folder, 1), true);
  assert.equal(files().length, 4);
  assert.equal(await cache.room(folder, Number.MAX_SAFE_INTEGER), false);
  assert.deepEqual(files(), []);
  assert.equal(readFileSync(file("mine"), "utf8"), "taken");
});

test("what cannot be kept is not, and what was there under its key is gone", async () => {
  const { cache, file, keep, take, files } = await started();
  await keep(one, "old");
  await cache.of("default", true).keep(one, { digest: "sha256:new", bytes: 1, path: file("nothing") });
  assert.equal(await take(one), null);
  assert.deepEqual(files(), []);
  assert.ok(!existsSync(file("nothing")));
});
