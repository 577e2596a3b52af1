// A gigabyte of log from four instances at once: bounded in memory and on the disk, and how fast it is read.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { createTelemetry } from "./client.ts";

const MiB = 1024 * 1024;

test("a gigabyte of log is bounded in memory and on the disk", async (t) => {
  const directory = fs.mkdtempSync(join(os.tmpdir(), "ebb-telemetry-"));
  const telemetry = createTelemetry({
    runningIn: () => [],
    directory,
    clock: systemClock,
    fatal: (reason) => assert.fail(reason),
    keptBytes: 16 * MiB,
    segmentBytes: 2 * MiB,
  });
  await telemetry.start();
  t.after(async () => {
    await telemetry.stop();
    fs.rmSync(directory, { recursive: true });
  });
  const before = process.memoryUsage().rss;
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const floods = [1, 2, 3, 4].map(async (i) => {
    const paths = ["out", "err"].map((name) => join(directory, `i${i}.${name}`));
    execFileSync("mkfifo", paths);
    const [stdout, stderr] = paths as [string, string];
    telemetry.attach({
      instance: `i${i}`,
      project: "default",
      workload: "flood",
      source: { kind: "fifo", stdout, stderr, frames: null },
      nonce: null,
      concurrency: 1,
    });
    await once(spawn("sh", ["-c", `yes "$0" | head -c ${256 * MiB} > "$1"`, "x".repeat(99), stdout]), "exit");
    telemetry.detach(`i${i}`);
  });
  let rssMost = 0;
  let diskMost = 0;
  const sampling = setInterval(() => {
    rssMost = Math.max(rssMost, process.memoryUsage().rss);
    const log = join(directory, "logs", "default");
    if (!fs.existsSync(log)) return;
    let bytes = 0;
    for (const name of fs.readdirSync(log)) bytes += fs.statSync(join(log, name), { throwIfNoEntry: false })?.size ?? 0;
    diskMost = Math.max(diskMost, bytes);
  }, 20);
  await Promise.all(floods);
  const metrics = await telemetry.metrics();
  clearInterval(sampling);
  const seconds = (performance.now() - startedMs) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  assert.match(metrics, new RegExp(`^ebb_log_read_bytes_total ${1024 * MiB}$`, "m"));
  assert.ok(diskMost <= 16 * MiB, `${diskMost} bytes on the disk`);
  assert.ok(rssMost - before < 128 * MiB, `${(rssMost - before) / MiB} MiB more memory`);
  const perSecond = (1024 * MiB) / 1e6 / seconds;
  const cpuSeconds = (cpu.user + cpu.system) / 1e6;
  t.diagnostic(
    `${perSecond.toFixed(0)} MB/s, ${cpuSeconds.toFixed(2)} s of CPU, ${((rssMost - before) / MiB).toFixed(0)} MiB`,
  );
});
