// `ebb dev`: watches, deploys each change within a second, tails, survives what is refused.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createStage, type Stage } from "./stage.testing.ts";

let stage: Stage;
before(async () => {
  stage = await createStage();
});
after(() => stage.stop());

test("dev deploys, deploys again what changes, tells what is refused and goes on, and tails", async () => {
  const { world } = stage;
  world.loadFailures.set("broken", { fault: "function", message: "boom (index.js:1)", stack: null, hint: null });
  const path = await stage.folder("app", { "index.js": "one", ".env": "LEVEL=debug\n" });
  const child = stage.start(["dev", path]);
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (err += chunk));
  const saw = async (stream: "out" | "err", words: RegExp): Promise<void> => {
    while (!words.test(stream === "out" ? out : err)) {
      assert.equal(child.exitCode, null, err);
      await once(stream === "out" ? child.stdout : child.stderr, "data");
    }
  };
  try {
    await saw("out", /r1 \(new\)/);
    assert.equal(world.mirror.workload("default", "app")?.revision.settings.env["LEVEL"], "debug");

    const began = performance.now();
    await writeFile(join(path, "index.js"), "two");
    await saw("out", /r2 \(was r1\)/);
    assert.ok(performance.now() - began < 1_000, "within a second");

    await writeFile(join(path, "index.js"), "broken");
    await saw("err", /app: boom \(index\.js:1\)/);
    await writeFile(join(path, ".env"), "LEVEL=info\n");
    await writeFile(join(path, "index.js"), "three");
    await saw("out", /r3 \(was r2\)/);

    while (world.followers.size === 0) await new Promise((resolve) => setImmediate(resolve));
    for (const follower of world.followers)
      follower({ time: 1, workload: "app", invocation: null, stream: "stdout", level: "info", message: "printed" });
    await saw("out", /printed/);
  } finally {
    child.kill("SIGINT");
    await once(child, "close");
  }
  assert.equal(child.exitCode, 0, err);
});
