// The fake driver under the suite: the programs are recognised by their text, because it runs none.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { OneOffResult } from "../door.ts";
import { assignmentOf, get, poolOf, prepare, programs, runSandboxSuite } from "../suite.ts";
import { createFakeDriver, type Script } from "./fake.ts";

const failure = { fault: "function", stack: null, hint: null } as const;
const scripts: ReadonlyMap<string, Script> = new Map<string, Script>([
  [
    programs.hello,
    { serve: (request, response, { assignment }) => response.end(`hello ${assignment.env["SECRET"]} ${request.url}`) },
  ],
  [programs.throws, { fails: { ...failure, message: "thrown while it loads" } }],
  [programs.exitsInLoad, { fails: { ...failure, message: "It exited with code 4." } }],
  [programs.exits, { serve: (_request, _response, sandbox) => sandbox.exit(3) }],
  [programs.deaf, { ignoresTerm: true }],
  [
    programs.tells,
    {
      done: "told",
      serve: (request, response, sandbox) => {
        sandbox.done(String(request.headers["id"]));
        response.end();
      },
    },
  ],
]);
const nothingRuns = "it runs no code";

runSandboxSuite("fake", {
  skip: {
    "output can be read where the driver says": nothingRuns,
    "what was started ahead and is dead, or deaf, when its code comes is told apart from code that does not load":
      nothingRuns,
    "runtime python3 keeps the same contract": nothingRuns,
    "runtime custom runs any program that listens on PORT": nothingRuns,
    "a custom program that is not there is the function's failure": nothingRuns,
    "a runtime that answers no JSON is a failed start": nothingRuns,
    "a program that is run to its end gives its output": nothingRuns,
    "a program that fails is told with its code and its stderr": nothingRuns,
    "a program that takes too long is ended": nothingRuns,
    "a program that says too much fails": nothingRuns,
  },
  open: async () => {
    const driver = createFakeDriver({
      clock: systemClock,
      script: (_pool, assignment) => scripts.get(assignment?.codeDigest ?? "") ?? {},
    });
    return { driver, code: async (source) => source, close: () => driver.stop() };
  },
});

test("fake: time is the clock's alone", async () => {
  const clock = new VirtualClock();
  const exit = { reason: "memory", code: 137, message: "out of memory" } as const;
  const driver = createFakeDriver({ clock, script: () => ({ startMs: 5_000, dies: { afterMs: 60_000, exit } }) });
  const sandbox = await prepare(driver, poolOf("node26"));
  let ready = false;
  const assigned = driver.assign(sandbox.id, assignmentOf("code")).then((answer) => {
    ready = answer.ok;
    return answer;
  });
  await clock.advance(4_999);
  assert.equal(ready, false);
  await clock.advance(1);
  await assigned;
  assert.equal(ready, true);
  assert.equal((await get(driver, sandbox.id)).body, "ok");
  await clock.advance(60_000);
  assert.deepEqual(await sandbox.exited, exit);
});

test("fake: programs are run by whoever made it", async () => {
  const result: OneOffResult = { ok: true, stdout: Buffer.from("x"), stderr: "" };
  const driver = createFakeDriver({ clock: systemClock, run: async () => result });
  const spec = { pool: poolOf("node26"), argv: [], env: {}, mounts: [], timeoutMs: 1, outputBytes: 1 };
  assert.equal(await driver.run(spec), result);
});
