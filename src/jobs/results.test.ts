// What is read from a pipe is kept as it was written, up to its bounds.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { constants } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { newInvocationId } from "#model/ids.ts";
import { Results, type ResultsOptions } from "./results.ts";

const folder = mkdtempSync(join(tmpdir(), "ebb-results-"));
after(() => rmSync(folder, { recursive: true }));
const job = { project: "photos", workload: "report" };

const failures: unknown[] = [];
function resultsIn(name: string, bounds: Partial<ResultsOptions> = {}): Results {
  return new Results({ folder: join(folder, name), failed: (error) => void failures.push(error), ...bounds });
}

let pipes = 0;
function pipe(): string {
  const path = join(folder, `pipe${pipes++}`);
  execFileSync("mkfifo", [path]);
  return path;
}

/** As a program does it whose name for the pipe is a file's. */
function write(path: string, text: string): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  writeSync(fd, text);
  closeSync(fd);
}

async function textOf(results: Results, run: string, index = 0): Promise<string | null> {
  const found = await results.open(job, run, index);
  return found && Buffer.concat(await Array.fromAsync<Buffer>(found.content)).toString();
}

test("what was written, in as many pieces as it was, is there at the end", async () => {
  const results = resultsIn("a");
  const run = newInvocationId(1);
  const path = pipe();
  const reader = results.read(path, job, run, 0);
  write(path, "one ");
  write(path, "two");
  assert.equal(await textOf(results, run), null, "while it may still write there is none");
  assert.deepEqual(await reader.end(), { bytes: 7, tooLarge: false });
  assert.equal(await textOf(results, run), "one two");
  assert.equal(await textOf(results, run, 1), null);
  // The next attempt's counts, and nothing is nothing.
  assert.deepEqual(await results.read(pipe(), job, run, 0).end(), { bytes: null, tooLarge: false });
  assert.equal(await textOf(results, run), null);
});

test("more than the bound is not kept, and whoever writes on is told", async () => {
  const results = resultsIn("b", { mostBytes: 10 });
  const run = newInvocationId(2);
  const path = pipe();
  const reader = results.read(path, job, run, 0);
  write(path, "12345678901");
  // Read at once where it is drained; its reader has let go then.
  assert.deepEqual(await reader.end(), { bytes: null, tooLarge: true });
  assert.throws(() => write(path, "more"), { code: "ENXIO" });
  assert.equal(await textOf(results, run), null);
});

test("a project's oldest results go first when it has too many, and a job's with the job", async () => {
  const results = resultsIn("c", { keptBytes: 10 });
  const runs = [3_000, 4_000, 5_000].map(newInvocationId);
  for (const run of runs) {
    const path = pipe();
    const reader = results.read(path, job, run, 0);
    write(path, "12345");
    await reader.end();
  }
  const there = await Promise.all(runs.map((run) => textOf(results, run)));
  assert.deepEqual(there, [null, "12345", "12345"]);
  assert.equal(readdirSync(join(folder, "c", "photos", "report")).length, 2);
  await results.remove(job, Infinity);
  assert.equal(existsSync(join(folder, "c", "photos", "report")), false);
});

test("small ones are bounded by their number, also those that an earlier ebb has kept", async () => {
  const runs = [3_000, 4_000, 5_000, 6_000].map(newInvocationId);
  for (const run of runs) {
    // Each by an ebb of its own.
    const results = resultsIn("d", { keptCount: 2 });
    const path = pipe();
    const reader = results.read(path, job, run, 0);
    write(path, "1");
    await reader.end();
  }
  const results = resultsIn("d");
  const there = await Promise.all(runs.map((run) => textOf(results, run)));
  assert.deepEqual(there, [null, null, "1", "1"]);
});

test("what cannot be kept is told, and its task has ended all the same", async () => {
  writeFileSync(join(folder, "e"), "where a folder is to be");
  const path = pipe();
  const reader = resultsIn("e").read(path, job, newInvocationId(7), 0);
  write(path, "12345");
  assert.deepEqual(await reader.end(), { bytes: null, tooLarge: false });
  assert.equal(failures.length, 1);
});

test("what an ebb that died has left unfinished goes with the next, and so does what is of no job", async () => {
  const run = newInvocationId(8);
  for (const workload of ["report", "gone"]) {
    mkdirSync(join(folder, "f", "photos", workload), { recursive: true });
    writeFileSync(join(folder, "f", "photos", workload, `${run}.0`), "done");
    writeFileSync(join(folder, "f", "photos", workload, `${run}.1.part`), "half");
  }
  mkdirSync(join(folder, "f", "lost", "report"), { recursive: true });
  await resultsIn("f").sweep(({ project, workload }) => project === "photos" && workload === "report");
  const left = readdirSync(join(folder, "f"), { recursive: true, encoding: "utf8" });
  assert.deepEqual(new Set(left), new Set(["photos", "photos/report", `photos/report/${run}.0`]));
});
