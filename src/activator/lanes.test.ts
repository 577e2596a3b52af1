// When the load of a lane is told: behind the answers of the turn in which it has changed, however many changes came before.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Lanes } from "./lanes.ts";
import { testRevision } from "./world.testing.ts";

/** A loop whose turns end when the test says so. */
function turns(): { readonly defer: (run: () => void) => void; readonly end: () => void } {
  let ending: Array<() => void> = [];
  return {
    defer: (run) => void ending.push(run),
    end() {
      const now = ending;
      ending = [];
      for (const run of now) run();
    },
  };
}

function lanesWithReports() {
  const { defer, end } = turns();
  const reports: string[] = [];
  const revision = testRevision();
  const lanes = new Lanes({
    current: () => revision,
    report: (lane) => void reports.push(lane.revision.workload),
    defer,
  });
  return { lanes, lane: lanes.forInstance(revision), reports, end };
}

test("a load that has changed is reported once, at the end of the turn after", () => {
  const { lanes, lane, reports, end } = lanesWithReports();
  lanes.changed(lane);
  lanes.changed(lane);
  end();
  assert.deepEqual(reports, []);
  end();
  assert.deepEqual(reports, ["hello"]);
  end();
  assert.deepEqual(reports, ["hello"]);
});

test("what changes behind a report that came in between waits for its own turn to go out", () => {
  const { lanes, lane, reports, end } = lanesWithReports();
  lanes.changed(lane);
  lanes.report(lane);
  // A call is answered in the very next turn: the report of the change before must not bring its decision forward.
  end();
  lane.serve(testRevision({}, 2));
  lanes.changed(lane);
  end();
  assert.deepEqual(reports, ["hello"], "the answer of this turn goes out first");
  end();
  assert.deepEqual(reports, ["hello", "hello"]);
});
