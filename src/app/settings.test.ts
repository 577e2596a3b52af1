// Settings with nothing left out: where each comes from, what flags override, and what is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EbbError } from "#model/errors.ts";
import type { FunctionDeclaration } from "./door.ts";
import { defaultCpu, settle, type SettingFlags } from "./settings.ts";

const noFlags: SettingFlags = { memoryMb: null, env: {}, public: null };

function settled(declaration: Partial<FunctionDeclaration>, flags: Partial<SettingFlags> = {}) {
  return settle({
    declaration: { name: "f", source: ".", ...declaration },
    flags: { ...noFlags, ...flags },
    recognised: { runtime: "node26", entry: "index.js" },
    isolation: "container",
  });
}

function refused(code: string, pattern: RegExp, run: () => unknown): void {
  assert.throws(run, (error) => error instanceof EbbError && error.code === code && pattern.test(error.message));
}

test("what nobody wrote is the documented default, and says so", () => {
  const { settings, sources } = settled({});
  assert.deepEqual(settings, {
    runtime: "node26",
    entry: "index.js",
    handler: null,
    signature: "web",
    command: null,
    memoryMb: 256,
    cpu: 0.1408,
    cpuStrict: false,
    timeoutSeconds: 300,
    concurrency: 1,
    min: 0,
    max: 20,
    idleSeconds: 60,
    public: false,
    env: {},
    secrets: [],
    egress: "internet",
    isolation: "container",
  });
  assert.deepEqual(sources, {
    runtime: "recognised",
    entry: "recognised",
    memoryMb: "default",
    cpu: "default",
    cpuStrict: "default",
    timeoutSeconds: "default",
    concurrency: "default",
    min: "default",
    max: "default",
    idleSeconds: "default",
    public: "default",
    env: "default",
    secrets: "default",
    egress: "default",
    isolation: "default",
  });
});

test("what was written holds, and says so", () => {
  const { settings, sources } = settled({
    runtime: "node22",
    handler: "index.handle",
    signature: "event",
    cpu: 2,
    min: 1,
    idleSeconds: 0,
    secrets: ["A"],
    egress: "none",
  });
  assert.deepEqual(
    [
      settings.runtime,
      settings.handler,
      settings.signature,
      settings.cpu,
      settings.min,
      settings.idleSeconds,
      settings.egress,
    ],
    ["node22", "index.handle", "event", 2, 1, 0, "none"],
  );
  for (const key of ["runtime", "handler", "signature", "cpu", "min", "idleSeconds", "secrets", "egress"] as const)
    assert.equal(sources[key], "app file", key);
});

test("a flag wins over the app file, and cpu follows the memory that holds", () => {
  const { settings, sources } = settled(
    { memoryMb: 128, public: true, env: { A: "1", B: "2" } },
    { memoryMb: 1024, public: false, env: { B: "3" } },
  );
  assert.deepEqual(
    [settings.memoryMb, settings.cpu, settings.public, settings.env],
    [1024, 0.5632, false, { A: "1", B: "3" }],
  );
  assert.deepEqual([sources.memoryMb, sources.public, sources.env], ["flag", "flag", "flag"]);
});

test("cpu by memory stays in its bounds", () =>
  assert.deepEqual([32, 256, 65_536].map(defaultCpu), [0.0176, 0.1408, 36.0448]));

test("runtime custom has a command, and neither entry nor handler", () => {
  const { settings } = settled({ runtime: "custom", command: ["./s"] });
  assert.deepEqual(
    [settings.entry, settings.handler, settings.signature, settings.command],
    [null, null, "program", ["./s"]],
  );
  refused("invalid_app", /needs a command/, () => settled({ runtime: "custom" }));
});

test("flags out of bounds are refused by name", () => {
  for (const memoryMb of [0, 31, 1.5, NaN, 1e9])
    refused("bad_request", /^--memory: expected a whole number from 32 to 65536/, () => settled({}, { memoryMb }));
  refused("bad_request", /^--env "A-B": not letters/, () => settled({}, { env: { "A-B": "1" } }));
  refused("bad_request", /"PORT" is set by ebb/, () => settled({}, { env: { PORT: "1" } }));
  refused("bad_request", /NUL/, () => settled({}, { env: { A: "\0" } }));
  refused("invalid_app", /A is both in env and in secrets/, () => settled({ secrets: ["A"] }, { env: { A: "1" } }));
  refused("invalid_app", /at most 32768 bytes of env/, () =>
    settled({ env: { A: "x".repeat(20_000) } }, { env: { B: "x".repeat(20_000) } }),
  );
});
