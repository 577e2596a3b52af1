// Memory that is given back, in every thread, with V8's flags as they were.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { cachedDataVersionTag } from "node:v8";
import { Worker } from "node:worker_threads";
import { giveBack } from "./give-back.ts";

const here = import.meta.resolve("./give-back.ts");

test("what nobody holds is collected at once, in the main thread and in a worker, and compiled code still fits", async () => {
  const tag = cachedDataVersionTag();
  const lives = new WeakRef({ held: "by nobody" });
  await new Promise(setImmediate);
  giveBack({ thoroughly: true });
  assert.equal(lives.deref(), undefined);
  const worker = new Worker(
    `const { parentPort } = require("node:worker_threads");
    import(${JSON.stringify(here)}).then(async ({ giveBack }) => {
      const lives = new WeakRef({});
      await new Promise(setImmediate);
      giveBack();
      parentPort.postMessage(lives.deref() === undefined);
    });`,
    { eval: true },
  );
  assert.deepEqual(await once(worker, "message"), [true]);
  await worker.terminate();
  assert.equal(cachedDataVersionTag(), tag);
});

test("compiled code that Node holds is written to its cache and let go of, not kept until the end", (t) => {
  const cache = mkdtempSync(join(tmpdir(), "ebb-give-back-"));
  t.after(() => rmSync(cache, { recursive: true }));
  const script = `
    const { readdirSync } = require("node:fs");
    const files = () => readdirSync(${JSON.stringify(cache)}, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    import(${JSON.stringify(here)}).then(({ giveBack }) => {
      const before = files().length;
      giveBack();
      console.log(before, files().length > 0);
    });`;
  const env = { ...process.env, NODE_COMPILE_CACHE: cache };
  assert.equal(execFileSync(process.execPath, ["-e", script], { env, encoding: "utf8" }), "0 true\n");
});
