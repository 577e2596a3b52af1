// What outlives a daemon is one span and one record; what does not is billed to its last mark, as ever.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { InvocationRecord } from "#model/invocation.ts";
import { FrameBuffer, FrameReader, type Frame } from "./frame.ts";
import { SpanFold } from "./spans.ts";

const open = (epoch: number, atUs: number): Frame => ({ kind: "open", bootId: "boot", wallMs: 3_600_000, atUs, epoch });
const instance = (n: number, id: string): Frame => {
  const of = { project: "p", workload: "w", revision: 1, memoryMb: 128, min: 0 };
  return { kind: "instance", instance: n, atUs: 0, id, ...of };
};
const begin = (n: number, invocation: number, id: string, atUs: number): Frame => {
  const how = { trigger: "manual", timeMs: 3_600_000, queuedUs: 0, startUs: 0, cold: true } as const;
  return { kind: "begin", instance: n, invocation, atUs, id, ...how, cpuNs: 1_000 };
};
const end = (n: number, invocation: number, atUs: number): Frame => {
  const how = { outcome: "ok", status: null, bytesIn: 0, bytesOut: 0 } as const;
  return { kind: "end", instance: n, invocation, atUs, ...how, cpuNs: 9_000 };
};
const resume = (n: number, invocation: number, id: string): Frame => ({
  kind: "resume",
  atUs: 40_000,
  instance: n,
  invocation,
  id,
});
const alive = (n: number, atUs: number): Frame => ({ kind: "alive", instance: n, atUs, cpuNs: 2_000 });

function recordsOf(frames: readonly Frame[], saveEach: boolean): InvocationRecord[] {
  const records: InvocationRecord[] = [];
  let fold = new SpanFold(null, (record) => records.push(record));
  for (const frame of frames) {
    fold.apply(frame);
    if (saveEach) fold = new SpanFold(fold.save(), (record) => records.push(record));
  }
  assert.equal(fold.strayMarks, 0);
  return records;
}

for (const saveEach of [false, true])
  test(`a run that is resumed is one record over both daemons' lives${saveEach ? ", saved at any point" : ""}`, () => {
    const first = [
      open(1, 0),
      instance(1, "i1"),
      begin(1, 1, "run", 10_000),
      instance(2, "i2"),
      begin(2, 2, "f", 10_000),
    ];
    const marks = [alive(1, 20_000), alive(2, 20_000)];
    // The new daemon's own numbers begin where the old one's did.
    const second = [resume(2 ** 31, 1, "i1"), open(2, 50_000), instance(1, "i3"), begin(1, 2, "g", 60_000)];
    const ends: Frame[] = [
      end(1, 2, 61_000),
      end(2 ** 31, 1, 90_000),
      { kind: "close", instance: 2 ** 31, atUs: 90_000 },
    ];
    const records = recordsOf([...first, ...marks, ...second, ...ends], saveEach);
    assert.deepEqual(
      records.map(({ id, outcome, billedUs, cpuNs }) => [id, outcome, billedUs, cpuNs]),
      [
        ["f", "interrupted", 10_000, 1_000],
        ["g", "ok", 1_000, 8_000],
        ["run", "ok", 80_000, 8_000],
      ],
    );
  });

test("one that is resumed twice is still one, and one that nobody ends is billed to its last mark", () => {
  const first = [open(1, 0), instance(1, "i1"), begin(1, 1, "run", 10_000)];
  const second = [resume(2 ** 31 + 1, 1, "i1"), open(2, 50_000), alive(2 ** 31 + 1, 55_000)];
  const third = [resume(2 ** 31 + 2, 1, "i1"), open(3, 70_000)];
  assert.deepEqual(
    recordsOf([...first, ...second, ...third, open(4, 99_000)], false).map(({ id, billedUs }) => [id, billedUs]),
    [["run", 45_000]],
  );
});

test("a resume frame is read as it was written", () => {
  const buffer = new FrameBuffer();
  const frame = resume(2 ** 31, 7, "i368k924rfsn1");
  buffer.push(frame);
  buffer.seal(1, 0);
  const reader = new FrameReader(buffer.bytes.subarray(0, buffer.length), 1, 0);
  assert.equal(reader.sizeAt(0), buffer.length);
  assert.deepEqual(reader.frameAt(0), frame);
});
