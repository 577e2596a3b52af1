// Holds the shape of the house: rooms see each other through doors only, and what must be absent is absent.

import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveImport, sourceFiles, type SourceFile } from "./source.ts";

const files = sourceFiles(".ts", ".mjs");
const production = files.filter((file) => file.path.startsWith("src/") && !file.isTest);
const shared = new Set(["model", "lib"]);

/** Where rooms are put together: the daemon, and the composition root of each worker thread. */
function isRoot(file: SourceFile): boolean {
  return file.path === "src/daemon.ts" || file.path.startsWith("src/daemon/") || file.room === "threads";
}

function offences(check: (file: SourceFile) => Iterable<string>): string[] {
  return production.flatMap((file) => [...check(file)].map((what) => `${file.path}: ${what}`));
}

test("the reader of imports finds every kind of import", () => {
  assert.ok(files.length > 50, `only ${files.length} source files were found`);
  const rooms = new Set(production.map((file) => file.room).filter((room) => room !== null));
  for (const room of ["gateway", "activator", "fleet", "sandbox", "metering", "store"])
    assert.ok(rooms.has(room), room);
});

/** The command line is a program of its own, beside the daemon: made of its commands, the client and the reader of app files. */
const commandLineRooms = new Set(["client", "app"]);
/** `ebb doctor` sees what the daemon would see: the same eyes, where there is no daemon yet to ask. */
const sharedEyes = new Set(["src/network/problems.ts"]);

test("a room imports another room only as types, and only from its door", () => {
  const found = offences(function* (file) {
    if (file.room === null || isRoot(file)) return;
    for (const { specifier, typeOnly, line } of file.imports) {
      const target = resolveImport(file, specifier);
      const room = /^src\/([^/]+)\//.exec(target ?? "")?.[1];
      if (!target || room === undefined || room === file.room || shared.has(room)) continue;
      if (file.room === "cli" && (commandLineRooms.has(room) || sharedEyes.has(target))) continue;
      if (!typeOnly) yield `line ${line} imports #${room} at run time; only daemon.ts and threads/ may`;
      if (!target.endsWith("/door.ts"))
        yield `line ${line} imports ${specifier}; another room is seen through its door.ts`;
    }
  });
  assert.deepEqual(found, []);
});

test("model and lib import no room", () => {
  const found = offences(function* (file) {
    if (file.room === null || !shared.has(file.room)) return;
    for (const { specifier } of file.imports) {
      const room = /^src\/([^/]+)\//.exec(resolveImport(file, specifier) ?? "")?.[1];
      if (room !== undefined && !shared.has(room)) yield `imports ${specifier}`;
      if (file.room === "model" && room === "lib") yield `imports ${specifier}; the words stand on nothing`;
    }
  });
  assert.deepEqual(found, []);
});

test("a door holds types only", () => {
  const found = offences(function* (file) {
    if (!file.path.endsWith("/door.ts")) return;
    if (/^(export )?(const|let|function|class|async)\b/m.test(file.text)) yield "has run-time code";
    for (const { specifier, typeOnly } of file.imports) if (!typeOnly) yield `imports ${specifier} at run time`;
  });
  assert.deepEqual(found, []);
});

test("no room but config.ts reads the environment", () => {
  const found = offences(function* (file) {
    if (file.path !== "src/config.ts" && /\bprocess\.env\b/.test(file.text)) yield "reads process.env";
  });
  assert.deepEqual(found, []);
});

test("a decision has no I/O, no clock and no chance", () => {
  const found = offences(function* (file) {
    if (!file.path.endsWith("/decide.ts")) return;
    for (const word of [
      "Date.now",
      "Math.random",
      "performance.now",
      "hrtime",
      "setTimeout",
      "await ",
      "node:fs",
      "node:net",
    ])
      if (file.text.includes(word)) yield `uses ${word}`;
  });
  assert.deepEqual(found, []);
});

test("only the spawner starts processes, and the command line its own", () => {
  const found = offences(function* (file) {
    if (file.room === "spawner" || file.room === "cli") return;
    if (file.imports.some(({ specifier }) => specifier === "node:child_process")) yield "imports node:child_process";
  });
  assert.deepEqual(found, []);
});

test("only the fleet calls sandbox drivers, and only the autoscaler says how many", () => {
  const found = offences(function* (file) {
    if (file.room !== "fleet" && file.room !== "sandbox" && !isRoot(file) && /\bSandboxDriver\b/.test(file.text))
      yield "names SandboxDriver";
    if (file.room !== "autoscaler" && file.room !== "fleet" && /\bfleet\.want\(/.test(file.text))
      yield "calls fleet.want";
  });
  assert.deepEqual(found, []);
});

test("no shell runs text that is put together: a script is a constant, and what varies is its arguments", () => {
  const found = offences(function* (file) {
    if (/\bshell:\s*true\b|\bexecSync\(/.test(file.text)) yield "runs a shell";
    for (const match of file.text.matchAll(/["']\/bin\/sh["'],\s*\[?\s*["']-c["'],\s*([^,\]]+)/g))
      if (!/^[a-zA-Z]+$/.test(match[1] ?? "")) yield `gives a shell ${match[1]}`;
  });
  assert.deepEqual(found, []);
});

test("every source file says in its first line what it is for", () => {
  const found = files
    .filter(
      (file) =>
        !file.path.startsWith("examples/") && !file.path.includes("/handlers/") && !file.path.includes("/fixtures/"),
    )
    .filter((file) => !/^(#!.*\n)?(\/\/ |\/\*\* |# )\S/.test(file.text))
    .map((file) => file.path);
  assert.deepEqual(found, []);
});

test("every source file is reached from an entry", () => {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const entries = files.filter((file) => file.isTest || isEntry(file.path)).map((file) => file.path);
  const reached = new Set<string>(entries);
  for (const path of reached) {
    const file = byPath.get(path);
    if (!file) continue;
    for (const { specifier } of file.imports) {
      const target = resolveImport(file, specifier);
      if (target) reached.add(target);
    }
    // Workers and programs for sandboxes are started by their path.
    for (const match of file.text.matchAll(/["'`](?:[^"'`\n]*\/)?([\w-]+\.(?:ts|mjs))["'`]/g))
      for (const candidate of files) if (candidate.path.endsWith(`/${match[1] ?? ""}`)) reached.add(candidate.path);
  }
  const dead = files
    .filter((file) => file.path.startsWith("src/") && !file.isTest && !reached.has(file.path))
    .map((file) => file.path);
  assert.deepEqual(dead, []);
});

function isEntry(path: string): boolean {
  return (
    path === "src/cli.ts" || path === "src/daemon.ts" || path.endsWith("/door.ts") || /^(tools|bench)\//.test(path)
  );
}
