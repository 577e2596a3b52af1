// What the Node shim makes of code, in this process: every handler file as it is recognised, and every failed load as it is told.
// processes.test.ts shows the way of it through a shim.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { describeFailure } from "../node/load-failure.mjs";
import { load, LoadError, resolveEntry } from "../node/load.mjs";
import { recognise } from "../node/recognise.mjs";
import { handlerFiles } from "./handler-files.ts";
import type { Assignment, Failed } from "./instance.ts";
import { assertTold, badCode } from "./loading.ts";
import { codeOf, handlersFolder } from "./support.ts";

const shapes = path.join(handlersFolder, "node/shapes");

/** What assign.mjs does, for code that exports what handles. */
async function become(code: string, { entry = null, handler = null, signature = null }: Partial<Assignment>) {
  const resolved = resolveEntry(code, entry, handler);
  const module = await load(code, resolved.entry);
  const wanted = { handler: resolved.handler, signature: signature as "web" | "event" | "node" | null, listens: false };
  return { entry: resolved.entry, found: recognise(module, wanted) };
}

for (const { shape, changes = {}, is } of (handlerFiles["node"] ?? []).filter(({ is }) => is[2] !== "server"))
  test(`${shape} is recognised`, async () => {
    const { entry, found } = await become(path.join(shapes, shape), changes);
    assert.ok(found !== null && "shape" in found, JSON.stringify(found));
    assert.deepEqual([entry, found.handler, found.shape], is);
  });

for (const one of (badCode["node"] ?? []).filter(({ alike }) => alike === true))
  test(`it is told: ${one.name}`, async (t) => {
    const code = one.shape === undefined ? codeOf(t, one.files ?? {}) : path.join(shapes, one.shape);
    assertTold(await failure(code, one.changes ?? {}), one);
  });

async function failure(code: string, changes: Partial<Assignment>): Promise<Failed> {
  let entry: string | null = null;
  try {
    entry = resolveEntry(code, changes.entry ?? null, changes.handler ?? null).entry;
    const { found } = await become(code, changes);
    assert.ok(found !== null && "refused" in found, JSON.stringify(found));
    throw new LoadError(`${found.refused} (${entry})`, found.hint);
  } catch (error) {
    return describeFailure(error, code, entry);
  }
}
