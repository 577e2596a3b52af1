// The mirror is filled in parts, is small where functions are alike, and tells what differs from what it showed before.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mutation } from "./door.ts";
import type { DeployedText, Part } from "./driver.ts";
import { project, revision, secret, settings, token, workload } from "./fixtures/things.ts";
import { MapMirror } from "./mirror.ts";

function part(...deployed: DeployedText[]): Part {
  return { projects: [], tokens: [], secrets: [], deployed: JSON.stringify(deployed), next: null };
}

function refilled(mirror: MapMirror, ...parts: Part[]): void {
  const refill = mirror.refill();
  for (const one of parts) refill.add(one);
  refill.done();
}

test("what comes in several parts is all there when they are done, and nothing of it before", () => {
  const mirror = new MapMirror();
  const refill = mirror.refill();
  refill.add({ ...part([1_000, 1_001, revision("p", "a")]), projects: [project("p")], tokens: [token("t", "p")] });
  refill.add({ ...part([1_000, 1_003, revision("p", "b", 3)]), secrets: [secret("p", "S")] });
  assert.deepEqual([...mirror.workloads()], []);
  refill.done();
  assert.deepEqual(mirror.workload("p", "a"), { workload: workload("p", "a"), revision: revision("p", "a") });
  assert.deepEqual(mirror.workload("p", "b"), { workload: workload("p", "b", 3), revision: revision("p", "b", 3) });
  assert.equal(mirror.count("p"), 2);
  assert.equal(mirror.project("p")?.name, "p");
  assert.equal(mirror.tokenByHash("hash-t")?.id, "t");
  assert.equal(mirror.secret("p", "S")?.version, 1);
});

test("functions of the same settings share them, also across parts, and others have their own", () => {
  const mirror = new MapMirror();
  refilled(
    mirror,
    part([1, 2, revision("p", "a")], [1, 2, revision("p", "other", 1, { memoryMb: 512 })]),
    part([1, 2, revision("p", "b")]),
  );
  const [a, b, other] = ["a", "b", "other"].map((name) => mirror.workload("p", name)!.revision);
  assert.equal(a!.settings, b!.settings);
  assert.equal(a!.settingSources, b!.settingSources);
  assert.deepEqual(a!.settings, settings);
  assert.deepEqual(other!.settings, { ...settings, memoryMb: 512 });
});

test("listeners of a mirror that is filled again hear what differs, and of what is as it was nothing", () => {
  const mirror = new MapMirror();
  const names = Array.from({ length: 500 }, (_, index) => `same-${index}`);
  const same = names.map((name): DeployedText => [1_000, 1_001, revision("p", name)]);
  refilled(mirror, part(...same, [1_000, 1_001, revision("p", "new-revision")], [1, 1, revision("p", "removed")]));
  const heard: Mutation[] = [];
  mirror.onChange((mutations) => void heard.push(...mutations));
  refilled(mirror, part(...same, [1_000, 1_002, revision("p", "new-revision", 2)]));
  assert.deepEqual(heard, [
    { kind: "put_revision", revision: revision("p", "new-revision", 2) },
    { kind: "put_workload", workload: workload("p", "new-revision", 2) },
    { kind: "remove_workload", key: { project: "p", workload: "removed" } },
  ]);
});

test("a workload that was removed and made anew with the same number is another", () => {
  const mirror = new MapMirror();
  refilled(mirror, part([1_000, 1_001, revision("p", "a")]));
  const heard: Mutation[] = [];
  mirror.onChange((mutations) => void heard.push(...mutations));
  refilled(mirror, part([2_000, 1_001, { ...revision("p", "a"), digest: "another" }]));
  assert.equal(heard.length, 2);
  assert.equal(mirror.workload("p", "a")?.revision.digest, "another");
});
