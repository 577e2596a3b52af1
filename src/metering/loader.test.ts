// Damaged journals: every frame that is whole is read, what is not is counted, and nothing is believed that was not written.

import assert from "node:assert/strict";
import { openSync, readFileSync, truncateSync, writeFileSync, writeSync, closeSync, rmSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import * as fc from "fast-check";
import { journalLimits } from "#model/limits.ts";
import { FrameBuffer, FrameReader, type Frame, type RefusedFrame } from "./frame.ts";
import { Journal } from "./journal.ts";
import { Loader } from "./loader.ts";
import { atOnce, dataDirectory, MemoryLedger, newLink } from "./fixtures/rig.ts";
import { segmentPath } from "./segment.ts";
import { JournalShared } from "./shared.ts";

const text = fc.stringMatching(/^[a-z0-9-]{0,40}$/);
const count = fc.integer({ min: 0, max: 2 ** 40 });
const answer = { status: fc.option(fc.integer({ min: 100, max: 599 })), bytesIn: count, bytesOut: count };
const begun = {
  trigger: fc.constantFrom("http", "internal", "mqtt"),
  timeMs: count,
  queuedUs: count,
  startUs: count,
  cold: fc.boolean(),
};
const inInstance = { instance: fc.nat(), atUs: count };
const inInvocation = { ...inInstance, invocation: fc.nat() };
const frames = fc.oneof(
  fc.record({ kind: fc.constant("begin"), ...inInvocation, ...begun, id: text, cpuNs: fc.option(count) }),
  fc.record({
    kind: fc.constant("end"),
    ...inInvocation,
    outcome: fc.constantFrom("ok", "interrupted"),
    ...answer,
    cpuNs: fc.option(count),
  }),
  fc.record({ kind: fc.constant("answered"), ...inInvocation, ...answer }),
  fc.record({ kind: fc.constant("alive"), ...inInstance, cpuNs: fc.option(count) }),
  fc.record({ kind: fc.constant("close"), ...inInstance }),
  fc.record({ kind: fc.constant("tick"), atUs: count, wallMs: count }),
  fc.record({ kind: fc.constant("open"), atUs: count, wallMs: count, epoch: count, bootId: text }),
  fc.record({
    kind: fc.constant("instance"),
    ...inInstance,
    id: text,
    project: text,
    workload: text,
    revision: fc.nat(),
    memoryMb: fc.nat(),
    min: fc.nat(),
  }),
  fc.record({
    kind: fc.constant("refused"),
    atUs: count,
    id: text,
    project: text,
    workload: text,
    revision: fc.option(
      fc.integer({
        min: 1,
        max: 99,
      }),
    ),
    ...begun,
    outcome: fc.constant("refused"),
    ...answer,
  }),
) as fc.Arbitrary<Frame>;

describe("frames", () => {
  it("come back as they were written, at their own place only", () => {
    fc.assert(
      fc.property(frames, fc.nat(), fc.nat(), (frame, segment, offset) => {
        const out = new FrameBuffer(1_024);
        out.push(frame);
        out.seal(segment, offset);
        const bytes = out.bytes.subarray(0, out.length);
        const reader = new FrameReader(bytes, segment, offset);
        assert.equal(reader.sizeAt(0), out.length);
        // A plain copy: fast-check's have no prototype.
        assert.deepEqual(reader.frameAt(0), { ...frame });
        assert.equal(new FrameReader(bytes, segment + 1, offset).sizeAt(0), 0);
        assert.equal(new FrameReader(bytes, segment, offset + 1).sizeAt(0), 0);
        assert.equal(new FrameReader(bytes.subarray(0, out.length - 1), segment, offset).sizeAt(0), -1);
      }),
    );
  });
});

const ids = (ledger: MemoryLedger): number[] => ledger.records.map((one) => Number(one.id.slice(3)));
/** All ids are of one length, and so are all frames. */
const idOf = (n: number): string => `id-${String(n).padStart(5, "0")}`;

describe("loader", () => {
  let place: ReturnType<typeof dataDirectory>;
  let loader: Loader | null = null;
  const path = (): string => segmentPath(place.journal, 1);
  beforeEach(() => {
    place = dataDirectory();
  });
  afterEach(async () => {
    await loader?.close();
    place.remove();
  });

  const journalOf = (segmentBytes: number, link = newLink()): Journal =>
    new Journal({
      directory: place.journal,
      link,
      clock: { monotonicUs: () => 0, after: () => () => {} },
      defer: atOnce,
      late: (problem) => assert.fail(problem),
      segmentBytes,
    });
  /** Writes refusals, each a record by itself; then a second daemon, so that all of the first segment is read. */
  const write = (records: number): void => {
    const journal = journalOf(64 * 1024);
    journal.start();
    for (let n = 0; n < records; n++) journal.add({ ...refused, id: idOf(n) }, 0, null);
    journal.stop();
  };
  const refused: RefusedFrame = {
    kind: "refused",
    atUs: 1,
    id: "",
    project: "p",
    workload: "w",
    revision: null,
    trigger: "http",
    timeMs: 1,
    queuedUs: 0,
    startUs: 0,
    cold: false,
    outcome: "refused",
    status: 429,
    bytesIn: 0,
    bytesOut: 0,
  };
  const load = async (ledger = new MemoryLedger()): Promise<MemoryLedger> => {
    const link = newLink();
    const journal = journalOf(4_096, link);
    journal.start();
    await loader?.close();
    loader = new Loader({ directory: place.journal, shared: new JournalShared(link.shared), ledger });
    await loader.load();
    journal.stop();
    return ledger;
  };

  it("reads nothing while no writer has said where it is", async () => {
    write(3);
    const ledger = new MemoryLedger();
    loader = new Loader({ directory: place.journal, shared: new JournalShared(newLink().shared), ledger });
    assert.equal(loader.behind, false);
    assert.equal((await loader.load()).marks, 0);
    assert.equal(ledger.commits, 0);
  });

  it("takes the zeros behind the last frame for the end, not for damage", async () => {
    write(10);
    const ledger = await load();
    assert.equal(ledger.records.length, 10);
    assert.equal(ledger.damagedBytes, 0);
  });

  it("reads on after a hole, a flipped bit or rubbish, and counts what it cost", async () => {
    write(100);
    const size = frameSize();
    const fd = openSync(path(), "r+");
    writeSync(fd, Buffer.alloc(size * 3), 0, size * 3, size * 10);
    writeSync(fd, Buffer.from([0xff]), 0, 1, size * 50 + 20);
    writeSync(fd, Buffer.alloc(size, 0xeb), 0, size, size * 70);
    closeSync(fd);
    const ledger = await load();
    const lost = new Set([10, 11, 12, 50, 70]);
    assert.deepEqual(
      ids(ledger),
      Array.from({ length: 100 }, (_, n) => n).filter((n) => !lost.has(n)),
    );
    assert.ok(ledger.damagedBytes >= size * 5 - 4 && ledger.damagedBytes <= size * 5 + 4, String(ledger.damagedBytes));
  });

  it("survives a segment cut anywhere, and one that is gone", async () => {
    write(20);
    const size = frameSize();
    for (const cut of [size * 12 + 5, size * 3, 7, 0]) {
      truncateSync(path(), cut);
      const ledger = await load();
      assert.deepEqual(
        ids(ledger),
        Array.from({ length: Math.floor(cut / size) }, (_, n) => n),
      );
    }
    rmSync(path());
    assert.deepEqual(ids(await load()), []);
  });

  it("never invents a record, whatever bytes are changed", async () => {
    write(60);
    const whole = readFileSync(path());
    const size = frameSize();
    const change = fc.record({
      at: fc.integer({ min: 0, max: size * 60 - 1 }),
      bytes: fc.uint8Array({ maxLength: 40 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 5 }), async (changes) => {
        const damaged = Buffer.from(whole);
        for (const { at, bytes } of changes) damaged.set(bytes, at);
        writeFileSync(path(), damaged);
        const read = new Set(ids(await load()));
        assert.ok([...read].every((id) => id >= 0 && id < 60));
        // What was not touched is there.
        for (let n = 0; n < 60; n++) {
          const same = damaged.subarray(n * size, (n + 1) * size).equals(whole.subarray(n * size, (n + 1) * size));
          if (same) assert.ok(read.has(n), `${n} is whole and was not read`);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("lets others have their turn of the thread between two stretches", async () => {
    write(10_000);
    const ledger = new MemoryLedger();
    let turns = 0;
    let over = false;
    const turn = (): void => {
      turns++;
      if (!over) setImmediate(turn);
    };
    setImmediate(turn);
    await load(ledger);
    over = true;
    assert.ok(ledger.commits > 3, String(ledger.commits));
    assert.ok(
      turns >= ledger.commits - 1,
      `${turns} turns for others while ${ledger.commits} stretches were committed`,
    );
  });

  it("reads a segment in many stretches, each committed with its position", async () => {
    const records = 30_000;
    const journal = journalOf(8 * 1024 * 1024);
    journal.start();
    for (let n = 0; n < records; n++) journal.add({ ...refused, id: idOf(n) }, 0, null);
    journal.stop();
    const ledger = await load();
    assert.equal(ledger.records.length, records);
    assert.equal(new Set(ids(ledger)).size, records);
    assert.ok(ledger.commits >= (records * frameSize()) / journalLimits.loadBytes);
    assert.equal(ledger.damagedBytes, 0);
    assert.equal((await load(ledger)).records.length, records);
  });

  function frameSize(): number {
    const out = new FrameBuffer();
    out.push({ ...refused, id: idOf(0) });
    return out.length;
  }
});
