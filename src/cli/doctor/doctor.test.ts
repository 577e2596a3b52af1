// What doctor makes of machines that are not this one: cgroups and engines.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cgroupFinding, engineFindings, type CgroupFiles } from "./cgroups.ts";
import type { Finding } from "./check.ts";
import { olderThan, versionIn } from "./probe.ts";

const v1 = (...controllers: readonly string[]): string =>
  controllers.map((one) => `33 28 0:28 / /sys/fs/cgroup/${one} rw - cgroup cgroup rw,${one}`).join("\n");
const pure: CgroupFiles = { pure: "cpuset cpu io memory pids", hybrid: null, mounts: "" };
const legacy: CgroupFiles = { pure: null, hybrid: null, mounts: v1("cpu", "memory", "pids") };
const hybrid: CgroupFiles = { ...legacy, hybrid: "hugetlb" };
const crun: Finding = { what: "crun", verdict: "there", found: "1.8.1", remedy: null };
const runc: Finding = { what: "runc", verdict: "there", found: "1.1.5", remedy: null };
const missing = (one: Finding): Finding => ({ ...one, verdict: "missing", found: "-", remedy: `install ${one.what}` });

test("cgroups of version 1, 2 and both are there, and a missing controller is named", () => {
  assert.deepEqual(
    [pure, legacy, hybrid].map((files) => [cgroupFinding(files).verdict, cgroupFinding(files).found]),
    [
      ["there", "v2"],
      ["there", "v1"],
      ["there", "v1 (hybrid)"],
    ],
  );
  const without = cgroupFinding({ ...pure, pure: "cpu pids" });
  assert.deepEqual(
    [without.verdict, without.found, without.remedy],
    ["missing", "v2 without memory", "boot the kernel with cgroup_enable=memory"],
  );
  assert.match(cgroupFinding({ ...legacy, mounts: v1("cpu", "memory") }).found, /without pids/);
  assert.match(cgroupFinding({ ...legacy, mounts: "" }).found, /none is mounted/);
});

test("a controller left with the v2 mount of a hybrid machine stops crun: a note where runc serves, broken where nothing does", () => {
  const [withRunc] = engineFindings(crun, runc, hybrid);
  assert.equal(withRunc.verdict, "note");
  assert.match(withRunc.remedy ?? "", /mount -t cgroup -o hugetlb cgroup \/sys\/fs\/cgroup\/hugetlb; until then runc/);
  const [alone] = engineFindings(crun, missing(runc), hybrid);
  assert.equal(alone.verdict, "broken");
  // Mounted as v1, nothing is left with v2.
  assert.deepEqual(engineFindings(crun, runc, { ...hybrid, hybrid: "" }), [crun, runc]);
});

test("one engine is enough, and none is missing", () => {
  assert.deepEqual(
    [
      engineFindings(crun, missing(runc), pure),
      engineFindings(missing(crun), runc, pure),
      engineFindings(missing(crun), missing(runc), pure),
    ].map((both) => both.map(({ verdict }) => verdict)),
    [
      ["there", "note"],
      ["note", "there"],
      ["missing", "missing"],
    ],
  );
});

test("versions are found in what programs say of themselves, and compared by number", () => {
  assert.equal(versionIn("nftables v1.0.6 (Lester Gooch #5)"), "1.0.6");
  assert.equal(versionIn("crun version 1.8.1\ncommit: f8a0"), "1.8.1");
  assert.equal(versionIn("no such thing"), null);
  assert.deepEqual(
    [olderThan("1.10", "1.8"), olderThan("1.7.9", "1.8"), olderThan("1.8", "1.8.0"), olderThan("25.9.9", "26.0.0")],
    [false, true, false, true],
  );
});
