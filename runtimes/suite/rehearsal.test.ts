// The rehearsal of a pooled Node shim: what it leaves in the process is what was there before.

import assert from "node:assert/strict";
import { test } from "node:test";
import { rehearse } from "../node/rehearsal.mjs";

const skip = process.platform === "linux" ? false : "abstract sockets are Linux's";

test("a rehearsal puts back what it changes, and leaves nothing open", { skip }, async () => {
  const state = (): unknown => ({
    folder: process.cwd(),
    env: { ...process.env },
    globals: ["Request", "Response", "Headers", "fetch"].map((name) =>
      Object.getOwnPropertyDescriptor(globalThis, name),
    ),
    listeners: ["SIGTERM", "exit", "uncaughtException", "unhandledRejection"].map((name) =>
      process.listenerCount(name),
    ),
    stdout: Object.getOwnPropertyDescriptor(process, "stdout"),
  });
  const open = (): string[] => process.getActiveResourcesInfo().filter((name) => /Pipe|Server|TCP/.test(name));
  const [before, openBefore] = [state(), open()];
  await rehearse(2, () => false);
  assert.deepEqual(state(), before);
  while (open().length > openBefore.length) await new Promise((resolve) => void setImmediate(resolve));
});

test("a rehearsal ends in its middle when there is an assignment", { skip }, async () => {
  let asked = 0;
  await rehearse(1_000, () => ++asked > 3);
  assert.equal(asked, 4);
});
