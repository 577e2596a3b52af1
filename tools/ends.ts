// Imported before each test file: one that is through with its tests ends, also when a test that failed has left something running.

import { ChildProcess } from "node:child_process";
import { after } from "node:test";

/** Behind its last test come the ends of daemons, which take up to 10 s. */
const endsWithinMs = Number(new URL(import.meta.url).searchParams.get("ms") ?? 60_000);

after(() => {
  // Where nothing is left running the process has ended by then: this alone does not keep it.
  setTimeout(() => {
    const left = process.getActiveResourcesInfo().filter((name) => !/^(PipeWrap|TTYWrap|FSReqPromise)$/.test(name));
    process.stderr.write(`${process.argv[1]} does not end: ${left.join(", ")} is left running\n`);
    for (const handle of handles()) if (handle instanceof ChildProcess) handle.kill();
    process.exit(1);
  }, endsWithinMs).unref();
});

/** Node tells of what is active by kind alone. */
function handles(): unknown[] {
  return (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
}
