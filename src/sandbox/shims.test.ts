// How a runtime is started: V8 by what its sandbox has.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "#config.ts";
import { readShims } from "./shims.ts";

const shims = readShims(join(installation, "runtimes"));

test("V8's nursery is a share of the memory, and never more than V8's own most", () => {
  const nurseries = [16, 64, 128, 256, 4096].map((memoryMb) => {
    const argv = shims.argvOf("node26", memoryMb);
    assert.ok(argv.includes(`--max-old-space-size=${memoryMb}`));
    return Number(argv.find((word) => word.startsWith("--max-semi-space-size="))?.split("=")[1]);
  });
  assert.deepEqual(nurseries, [1, 3, 6, 12, 16]);
});

test("Python is told nothing of it", () => {
  assert.ok(!shims.argvOf("python3", 128).some((word) => word.includes("space-size")));
});
