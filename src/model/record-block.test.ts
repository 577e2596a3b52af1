// Whatever a record says comes back out of its block, and a damaged block says that it is.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { newInvocationId, timeOfId } from "./ids.ts";
import { outcomes, triggerKinds, type InvocationRecord } from "./invocation.ts";
import { packRecords, recordsOf, slotOf } from "./record-block.ts";

const text = fc.stringMatching(/^[a-z0-9-]{1,40}$/);
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const positive = fc.integer({ min: 1, max: 2 ** 32 - 1 });
const records = fc.record({
  id: fc.oneof(text, fc.integer({ min: 0, max: 5_000 }).map(newInvocationId)),
  project: fc.constantFrom("p", "q"),
  workload: fc.constantFrom("a", "b"),
  revision: fc.option(positive),
  instance: fc.option(fc.constantFrom("i1", "i2")),
  trigger: fc.constantFrom(...triggerKinds),
  timeMs: fc.integer({ min: 0, max: 5_000 }),
  cold: fc.boolean(),
  queuedUs: count,
  startUs: count,
  executionUs: count,
  billedUs: count,
  memoryMb: positive,
  cpuNs: fc.option(count),
  bytesIn: count,
  bytesOut: count,
  status: fc.option(fc.integer({ min: 100, max: 599 })),
  outcome: fc.constantFrom(...outcomes),
}) as fc.Arbitrary<InvocationRecord>;

describe("blocks of records", () => {
  it("hold every record as it was, by workload and second, in the order of their coming", () => {
    fc.assert(
      fc.property(fc.array(records, { maxLength: 60 }), (all) => {
        const given = all.map((one) => ({ ...one }));
        const blocks = packRecords(given);
        const keys = blocks.map((block) => JSON.stringify([block.project, block.workload, block.slotMs]));
        assert.equal(new Set(keys).size, keys.length);
        assert.equal(
          blocks.reduce((sum, block) => sum + block.records, 0),
          given.length,
        );
        for (const block of blocks) {
          const ofIt = (one: InvocationRecord): boolean =>
            one.project === block.project && one.workload === block.workload && slotOf(one.timeMs) === block.slotMs;
          assert.deepEqual(recordsOf(block), given.filter(ofIt));
          const strays = given.filter((one) => ofIt(one) && slotOf(timeOfId(one.id) ?? -1) !== block.slotMs);
          assert.deepEqual(
            block.strayIds,
            strays.map((one) => one.id),
          );
        }
      }),
    );
  });

  it("stay small: a crowd makes several of one second", () => {
    const [example] = fc.sample(records, 1);
    const crowd = Array.from({ length: 5_000 }, (_, n) => ({
      ...example!,
      id: newInvocationId(7),
      timeMs: 7,
      bytesIn: n,
    }));
    const blocks = packRecords(crowd);
    assert.ok(blocks.length > 1);
    for (const block of blocks) assert.ok(block.body.length <= 64 * 1024);
    assert.deepEqual(blocks.flatMap(recordsOf), crowd);
  });

  it("that are cut off or of another version are refused", () => {
    const [block] = packRecords(fc.sample(records, 1));
    const { body } = block!;
    for (let length = 0; length < body.length; length++)
      if (length !== 1) assert.throws(() => recordsOf({ ...block!, body: body.subarray(0, length) }), RangeError);
    const later = Uint8Array.from(body);
    later[0] = 2;
    assert.throws(() => recordsOf({ ...block!, body: later }), /unknown version 2/);
  });
});
