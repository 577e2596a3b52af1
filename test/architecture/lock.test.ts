// Holds that a fresh clone installs: the lock file names every package that any platform's install asks for.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "#config.ts";

interface LockedPackage {
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

test("package-lock.json holds every dependency of every package, optional ones of other platforms too", () => {
  // `npm ci` refuses a lock file that lacks one; npm writes such a file when a registry does not have it (yet).
  const lock = JSON.parse(readFileSync(join(installation, "package-lock.json"), "utf8")) as {
    packages: Record<string, LockedPackage>;
  };
  const paths = Object.keys(lock.packages);
  assert.ok(paths.length > 80, `only ${paths.length} packages`);
  const missing = paths.flatMap((path) => {
    const { dependencies = {}, optionalDependencies = {} } = lock.packages[path] ?? {};
    return [...Object.keys(dependencies), ...Object.keys(optionalDependencies)].filter(
      (name) => !paths.some((one) => one === `node_modules/${name}` || one === `${path}/node_modules/${name}`),
    );
  });
  assert.deepEqual(missing, []);
});
