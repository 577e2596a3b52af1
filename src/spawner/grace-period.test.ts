// The wait that a start finds begun: it moves nobody, and is not begun twice.

import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import { test } from "node:test";
import { GracePeriod, ownProcesses } from "./grace-period.ts";

const here = (): string => readFileSync("/proc/self/cgroup", "utf8");

test("the list that is found has this process in it", { skip: ownProcesses() === null && "no cgroups here" }, () => {
  assert.ok(readFileSync(ownProcesses()!, "latin1").split("\n").includes(String(process.pid)));
});

test("to begin it leaves the process where it is, and another one begins when it is over", async () => {
  const before = here();
  const written: number[] = [];
  const over: Array<() => void> = [];
  const period = new GracePeriod((file, done) => {
    written.push(file);
    over.push(done);
  });
  period.begin();
  period.begin();
  const file = ownProcesses();
  assert.deepEqual(
    written.map((fd) => readlinkSync(`/proc/self/fd/${fd}`)),
    file === null ? [] : [file],
  );
  for (const done of over.splice(0)) done();
  period.begin();
  assert.equal(written.length, file === null ? 0 : 2);
  const real = Promise.withResolvers<void>();
  new GracePeriod((fd, done) => {
    GracePeriod.write(fd, () => {
      done();
      real.resolve();
    });
  }).begin();
  if (file === null) real.resolve();
  await real.promise;
  assert.equal(here(), before);
});
