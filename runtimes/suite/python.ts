// What only Python has to show: threads.

import assert from "node:assert/strict";
import { describe } from "node:test";
import { codeOf, itOf, serving, type Runtime } from "./support.ts";

const threads = `
import os, threading
meeting = threading.Barrier(3)
def handle(event, context):
    if event["path"] == "/meet":
        meeting.wait()
    if event["path"] == "/large":
        return b"x" * 50_000_000
    return len(os.listdir("/proc/self/task"))
`;

export function pythonSuite(runtime: Runtime): void {
  const it = itOf(runtime);

  describe(`${runtime.name}: threads`, () => {
    it("are started as calls come together, not ahead", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, { "main.py": threads }), { concurrency: 100 });
      const count = async (target: string): Promise<number> => Number((await instance.request({ target })).text);
      const alone = await count("/");
      assert.ok(alone <= 4, `${alone} threads for one call`);
      // One more where a thread is off its processor between its answer and the next call for longer than it is waited for.
      for (let i = 0; i < 300; i++) {
        const seen = await count("/");
        assert.ok(seen <= alone + 1, `${seen} threads after ${i + 2} calls, one at a time`);
      }
      const together = Math.max(...(await Promise.all([count("/meet"), count("/meet"), count("/meet")])));
      assert.ok(together >= alone + 2 && together <= alone + 3, `${together} threads for three calls`);
    });

    it("are not waited for while one sends to somebody who reads slowly", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, { "main.py": threads }), { concurrency: 2 });
      const slow = await instance.connect();
      slow.send({ target: "/large" });
      await slow.responseHead();
      slow.socket.pause();
      assert.equal((await instance.request({})).status, 200);
      slow.socket.resume();
    });

    it("are never more than the concurrency: what comes beyond it waits its turn", async (t) => {
      const instance = await serving(t, runtime, codeOf(t, { "main.py": threads }), { concurrency: 3 });
      const alone = Number((await instance.request({})).text);
      const answers = await Promise.all(Array.from({ length: 9 }, () => instance.request({ target: "/meet" })));
      for (const answer of answers) assert.ok(Number(answer.text) <= alone + 2, answer.text);
    });
  });
}
