// A container's settings, from what was written, what its image says, and flags.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settleContainer, type SettleContainerOptions } from "./container-settings.ts";
import type { ContainerDeclaration } from "./door.ts";

const config = { entrypoint: ["/entry", "--it"], command: ["serve"], port: 80 };
const flags = { memoryMb: null, env: {}, public: null };

function settled(declaration: Partial<ContainerDeclaration> = {}, over: Partial<SettleContainerOptions> = {}) {
  const from = { kind: "registry", reference: "web:1" } as const;
  return settleContainer({
    declaration: { name: "web", from, ...declaration },
    flags,
    config,
    isolation: "container",
    ...over,
  });
}

test("what nobody says is as the image says it, or as documented", () => {
  const { settings, sources } = settled();
  assert.deepEqual(settings, {
    image: "web:1",
    command: ["/entry", "--it", "serve"],
    port: 80,
    protocol: "http1",
    probe: { tcp: true },
    liveness: null,
    writableMb: 512,
    memoryMb: 512,
    cpu: 1,
    cpuStrict: false,
    timeoutSeconds: 300,
    concurrency: 80,
    min: 0,
    max: 5,
    idleSeconds: 60,
    public: false,
    env: {},
    secrets: [],
    egress: "internet",
    isolation: "container",
  });
  assert.deepEqual(
    [sources.command, sources.port, sources.image, sources.max],
    ["image", "image", "app file", "default"],
  );
  const silent = settled({}, { config: { ...config, port: null } });
  assert.deepEqual([silent.settings.port, silent.sources.port], [8080, "default"]);
});

test("command and args stand in the place of entrypoint and command, as with docker", () => {
  const of = (declaration: Partial<ContainerDeclaration>): readonly string[] => settled(declaration).settings.command;
  assert.deepEqual(of({ args: ["other"] }), ["/entry", "--it", "other"]);
  assert.deepEqual(of({ args: [] }), ["/entry", "--it"]);
  assert.deepEqual(of({ command: ["mine"] }), ["mine"]);
  assert.deepEqual(of({ command: ["mine"], args: ["a"] }), ["mine", "a"]);
  assert.equal(settled({ args: [] }).sources.command, "app file");
});

test("an image that says nothing of what is run needs a command", () => {
  const nothing = { config: { entrypoint: [], command: [], port: null } };
  assert.throws(() => settled({}, nothing), { message: /^web: the image does not say what is run in it/ });
  assert.deepEqual(settled({ args: ["x"] }, nothing).settings.command, ["x"]);
});

test("flags stand over the app file, and the writable layer follows the memory", () => {
  const { settings, sources } = settled(
    { memoryMb: 256, public: false, env: { A: "file", B: "file" } },
    { flags: { memoryMb: 1024, env: { A: "flag" }, public: true } },
  );
  assert.deepEqual([settings.memoryMb, settings.writableMb, settings.public], [1024, 1024, true]);
  assert.deepEqual(settings.env, { A: "flag", B: "file" });
  assert.deepEqual([sources.memoryMb, sources.public, sources.env], ["flag", "flag", "flag"]);
  assert.throws(() => settled({}, { flags: { ...flags, memoryMb: 1 } }), /--memory: expected/);
  assert.throws(
    () => settled({ secrets: ["A"] }, { flags: { ...flags, env: { A: "x" } } }),
    /A is both in env and in secrets/,
  );
});

test("by what it scales is a setting where it was said, and none otherwise", () => {
  const { settings, sources } = settled({ scaling: { memoryPercent: 70 } });
  assert.deepEqual([settings.scaling, sources.scaling], [{ memoryPercent: 70 }, "app file"]);
  assert.equal("scaling" in settled().settings, false);
});
