// A full disk: what has begun can always be ended, what cannot be metered does not begin, and nothing is torn.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync, mkdirSync, mkdtempSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Fact } from "#model/fact.ts";
import { systemClock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { createStore } from "#store/client.ts";
import { Loader } from "./loader.ts";
import { createMeter } from "./meter.ts";
import { atOnce, beginMark, endMark, HandClock, MemoryLedger, newLink, revisionOf, MarksById } from "./fixtures/rig.ts";
import { journalDirectory } from "./segment.ts";
import { JournalShared } from "./shared.ts";

const mayMount = process.platform === "linux" && process.getuid?.() === 0;
const MiB = 1024 * 1024;

const usage = (): { cpuNs: number; memoryPeakBytes: null } => ({ cpuNs: 1, memoryPeakBytes: null });
const fatal = (reason: string): never => assert.fail(reason);

describe("a full disk", { skip: mayMount ? false : "needs root, to mount a small disk" }, () => {
  let disk: string;
  before(() => {
    disk = mkdtempSync(join(tmpdir(), "ebb-full-"));
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]);
    assert.equal(mounted.status, 0, String(mounted.stderr));
  });
  after(() => {
    spawnSync("umount", [disk]);
    rmSync(disk, { recursive: true, force: true });
  });
  /** Fills what is left of the disk. */
  const fill = (): void => {
    const { bavail, bsize } = statfsSync(disk);
    try {
      writeFileSync(join(disk, "ballast"), Buffer.alloc(bavail * bsize + MiB));
      assert.fail("the disk was not small");
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
    }
  };

  it("lets every begun invocation end, and refuses new ones until there is room again", async () => {
    const directory = join(disk, "a");
    mkdirSync(directory);
    const clock = new HandClock();
    const link = newLink();
    const facts: Fact[] = [];
    const tell = (fact: Fact): number => facts.push(fact);
    const mirror = { project: () => null };
    const meter = createMeter({ directory, link, mirror, clock, tell, defer: atOnce, segmentBytes: 64 * 1024 });
    await meter.start();
    fill();
    const marks = new MarksById(meter.instance({ id: "i1", revision: revisionOf(), usage }));
    let begun = 0;
    let refusal: EbbError | null = null;
    for (; !refusal && begun < 100_000; begun++) refusal = marks.begin(beginMark(`id-${begun}`));
    begun--;
    assert.equal(refusal?.code, "storage_full");
    assert.match(refusal.message, /no space left/);
    assert.equal(marks.begin(beginMark("late"))?.code, "storage_full");
    clock.pass(1_000_000);
    for (let n = 0; n < begun; n++) {
      marks.answered({ id: `id-${n}`, status: 200, bytesIn: 0, bytesOut: 0 });
      marks.end(endMark(`id-${n}`));
    }
    marks.close();
    rmSync(join(disk, "ballast"));
    clock.pass(1_000_000);
    const again = new MarksById(meter.instance({ id: "i2", revision: revisionOf(), usage }));
    assert.equal(again.begin(beginMark("again")), null);
    again.end(endMark("again"));
    const ledger = new MemoryLedger();
    const loader = new Loader({
      directory: journalDirectory(directory),
      shared: new JournalShared(link.shared),
      ledger,
    });
    await loader.load();
    assert.equal(ledger.records.length, begun + 1);
    assert.ok(ledger.records.every((record) => record.outcome === "ok"));
    assert.equal(ledger.damagedBytes, 0);
    await loader.close();
    await meter.stop();
    rmSync(directory, { recursive: true });
  });

  it("is one clear sentence of the store, which goes on when there is room", async () => {
    const directory = join(disk, "b");
    const { store } = createStore({ directory, clock: systemClock, tell: () => {}, fatal });
    await store.start();
    try {
      fill();
      const audit = { timeMs: 1, identity: "t", command: "c", project: null, target: null, outcome: "ok" } as const;
      const write = async (): Promise<void> => {
        for (let n = 0; n < 1_000; n++) await store.audit({ ...audit, detail: "x".repeat(4_096) });
      };
      await assert.rejects(write(), (error) => {
        assert.ok(error instanceof EbbError);
        assert.equal(error.code, "storage_full");
        assert.match(error.message, /the disk that holds .* is full/);
        return true;
      });
      assert.deepEqual((await store.load()).projects, []);
      rmSync(join(disk, "ballast"));
      await store.audit({ ...audit, detail: "again" });
      assert.equal((await store.audits({ project: null, sinceMs: 0, limit: 1 }))[0]?.detail, "again");
    } finally {
      await store.stop();
      rmSync(join(disk, "ballast"), { force: true });
    }
  });

  it("is one clear sentence at the start", async () => {
    fill();
    const directory = join(disk, "c");
    const { store } = createStore({ directory, clock: systemClock, tell: () => {}, fatal });
    await assert.rejects(store.start(), (error) => {
      assert.ok(error instanceof EbbError, String(error));
      assert.equal(error.code, "storage_full");
      return true;
    });
    rmSync(join(disk, "ballast"), { force: true });
  });
});
