// Load checks that tell ebb nonsense instead of compiled code. load-cache.test.ts and load-cache.soak.ts say in which ways.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { folderOf, removeDirectory, type Daemon } from "./fixture.ts";

/** Folders of compiled code of a project, with the files in each. */
export function keptOf(daemon: Daemon, project = "default"): Record<string, string[]> {
  const folder = join(daemon.directory, "load-caches", project);
  if (!existsSync(folder)) return {};
  return Object.fromEntries(
    readdirSync(folder).map((name) => [
      join(folder, name),
      readdirSync(join(folder, name), { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name)),
    ]),
  );
}

/** Has the shim tell ebb whatever bytes the function wants: nothing that comes out of a sandbox is more than that. */
const evil = `import zlib from "node:zlib";
const file = (name, contents) => {
  const head = Buffer.alloc(6);
  head.writeUInt16BE(Buffer.byteLength(name), 0);
  head.writeUInt32BE(contents.length, 2);
  return Buffer.concat([head, Buffer.from(name), contents]);
};
const much = Buffer.alloc(100_000, 1);
const archives = {
  escape: () => file("../../../../evil", much),
  shadow: () => file("index.mjs", much),
  many: () => Buffer.concat(Array.from({ length: 20_000 }, (_, i) => file(".ebb/cache/v26-x/" + i.toString(16), Buffer.alloc(9)))),
  bomb: () => Buffer.alloc(40 * 1024 * 1024),
  flood: () => file(".ebb/cache/v26-x/a", Buffer.alloc(12 * 1024 * 1024)),
};
const made = archives[process.env.EVIL];
const { gzip } = zlib;
zlib.gzip = (bytes, options, done) => process.env.EVIL === "noise" ? done(null, Buffer.alloc(200_000, 7))
  : gzip(made(), process.env.EVIL === "flood" ? { level: 0 } : options, done);
export default () => new Response("served");`;

/** Each way is that of a function, which serves as if nothing had been told. */
export async function tellsNonsense(daemon: Daemon, ways: readonly string[]): Promise<void> {
  const before = Object.keys(keptOf(daemon));
  const folder = folderOf({
    "ebb.yaml": `functions:\n${ways
      .map(
        (way) => `  ${way}: { source: ./evil, public: true, memoryMb: 256, idleSeconds: 0, env: { EVIL: ${way} } }\n`,
      )
      .join("")}`,
    "evil/index.mjs": evil,
  });
  try {
    const { code: exit, stderr } = await daemon.ebb(["deploy", folder]);
    assert.equal(exit, 0, stderr);
    for (const way of ways) {
      const { status, text } = await daemon.fetch(`${way}.localhost`, "/");
      assert.deepEqual([status, text], [200, "served"], way);
    }
    assert.deepEqual(Object.keys(keptOf(daemon)), before);
    assert.doesNotMatch(daemon.log(), /defect/);
  } finally {
    removeDirectory(folder);
  }
}
