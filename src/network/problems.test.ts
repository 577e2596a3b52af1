// What is wrong with a machine, recognised from what its programs say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { findProblems, type MachineState } from "./problems.ts";

const fine: MachineState = {
  missing: [],
  ruleset: '{"nftables": []}',
  rulesetError: null,
  legacyRules: null,
  uplinks: [{ device: "eth0", forwarding: true }],
  running: true,
  resolvers: ["192.0.2.53"],
};

const chain = (family: string, table: string, name: string, hook: string, policy: string): object => ({
  chain: { family, table, name, handle: 1, type: "filter", hook, prio: 0, policy },
});
const ruleset = (...items: object[]): string =>
  JSON.stringify({ nftables: [{ metainfo: { version: "1.0.6" } }, ...items] });
const accept = (table: string, device: string): object => ({
  rule: {
    family: "ip",
    table,
    chain: "DOCKER-USER",
    expr: [{ match: { op: "==", left: { meta: { key: "iifname" } }, right: device } }, { accept: null }],
  },
});

void test("a machine that is fine has no problem", () => {
  assert.deepEqual(findProblems(fine), []);
  assert.deepEqual(
    findProblems({ ...fine, ruleset: ruleset(chain("ip", "filter", "FORWARD", "forward", "accept")) }),
    [],
  );
});

void test("Docker's FORWARD policy DROP is found, with the commands that mend it, until they were given", () => {
  const docker = chain("ip", "filter", "FORWARD", "forward", "drop");
  const [problem, ...rest] = findProblems({ ...fine, ruleset: ruleset(docker) });
  assert.deepEqual(rest, []);
  assert.match(problem?.what ?? "", /drops by default \(ip filter FORWARD, hook forward\)/);
  assert.match(problem?.remedy ?? "", /iptables -I FORWARD -i ebb\+ -j ACCEPT/);
  assert.match(problem?.remedy ?? "", /DOCKER-USER/);
  for (const device of ["ebb*", "ebb+", "ebb0a1b2c3d"])
    assert.deepEqual(findProblems({ ...fine, ruleset: ruleset(docker, accept("filter", device)) }), []);
  assert.equal(findProblems({ ...fine, ruleset: ruleset(docker, accept("filter", "docker0")) }).length, 1);
});

void test("a closed input is found, and ebb's own tables are not taken for somebody's", () => {
  const rules = ruleset(
    chain("inet", "firewall", "input", "input", "drop"),
    chain("inet", "ebb0a1b2c3d", "through", "forward", "drop"),
    chain("ip6", "filter", "FORWARD", "forward", "drop"),
    chain("inet", "firewall", "output", "output", "drop"),
  );
  const problems = findProblems({ ...fine, ruleset: rules });
  assert.equal(problems.length, 1);
  assert.equal(problems[0]?.remedy, `nft insert rule inet firewall input iifname '"ebb*"' accept`);
});

void test("old iptables tables count too", () => {
  const legacy = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n";
  const [problem] = findProblems({ ...fine, legacyRules: legacy });
  assert.match(problem?.remedy ?? "", /^iptables-legacy -I FORWARD/);
  assert.deepEqual(findProblems({ ...fine, legacyRules: `${legacy}-A FORWARD -i ebb+ -j ACCEPT\n` }), []);
});

void test("missing programs, routes, resolvers and routing are each said with what mends them", () => {
  const remedies = findProblems({
    ...fine,
    missing: ["nft", "ip"],
    ruleset: null,
    rulesetError: "ENOENT",
    resolvers: [],
    uplinks: [{ device: "wlan0", forwarding: false }],
  }).map((problem) => problem.remedy);
  assert.match(
    remedies.join("\n"),
    /apt-get install nftables\n.*apt-get install iproute2\n.*wlan0\.forwarding=1.*\n.*resolv\.conf/,
  );
  assert.match(findProblems({ ...fine, uplinks: [] })[0]?.what ?? "", /no default route/);
  assert.match(
    findProblems({ ...fine, ruleset: null, rulesetError: "Operation not permitted" })[0]?.what ?? "",
    /not permitted/,
  );
  assert.deepEqual(findProblems({ ...fine, running: false, uplinks: [{ device: "eth0", forwarding: false }] }), []);
});

void test("a ruleset that cannot be read as JSON is no crash", () => {
  for (const text of ["", "nonsense", "[]", '{"nftables": 3}', '{"nftables": [null, 1, {"chain": null}]}'])
    assert.deepEqual(findProblems({ ...fine, ruleset: text }), []);
});
