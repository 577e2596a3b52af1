// What sandboxes are told about names: by rule, and by properties that hold for every question and every answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isReachable, parseAddress, parseCidr } from "#model/address.ts";
import { entriesOf, permitsOf } from "#model/egress.ts";
import { resolverLimits } from "#model/limits.ts";
import {
  decideAnswer,
  decideQuery,
  keepSeconds,
  type AnswerRecord,
  type Question,
  type Rules,
  type UpstreamAnswer,
} from "./decide.ts";

const internet: Rules = { egress: "internet", gateway: "198.18.0.1", permits: [], hostDomains: [] };
const none: Rules = { ...internet, egress: "none" };
const a = (name: string, data: string, ttlSeconds = 60): AnswerRecord => ({ name, type: "A", ttlSeconds, data });
const cname = (name: string, data: string): AnswerRecord => ({ name, type: "CNAME", ttlSeconds: 60, data });
const upstream = (records: readonly AnswerRecord[], rest: Partial<UpstreamAnswer> = {}): UpstreamAnswer => ({
  rcode: "NOERROR",
  truncated: false,
  records,
  authority: [],
  ...rest,
});
const question = (name: string, type = "A"): Question => ({ name, type });

void test("ebb.internal and all below it are ebb's address, whatever the egress, and have nothing else", () => {
  for (const rules of [internet, none])
    for (const name of ["ebb.internal", "web.ebb.internal", "a.b.ebb.internal"]) {
      const decision = decideQuery(question(name), rules);
      assert.ok(decision.kind === "reply");
      assert.deepEqual(decision.reply.records, [a(name, "198.18.0.1")]);
      const six = decideQuery(question(name, "AAAA"), rules);
      assert.ok(six.kind === "reply");
      assert.deepEqual([six.reply.rcode, six.reply.records], ["NOERROR", []]);
    }
  const like = decideQuery(question("notebb.internal"), internet);
  assert.ok(like.kind === "reply" && like.reply.rcode === "NXDOMAIN");
});

void test("with egress none every other name does not exist, and nobody is asked", () => {
  fc.assert(
    fc.property(fc.domain(), fc.constantFrom("A", "AAAA", "TXT", "MX", "TYPE65"), (name, type) => {
      const decision = decideQuery(question(name, type), none);
      assert.ok(decision.kind === "reply");
      assert.equal(decision.reply.rcode, "NXDOMAIN");
      assert.deepEqual(decision.reply.records, []);
    }),
  );
});

const listed: Rules = {
  ...internet,
  egress: entriesOf(["www.example.com:443", "*.db.example:5432", "db.internal:80", "10.0.0.5:80"]),
};

void test("with a list every name that it does not hold does not exist, and nobody is asked", () => {
  for (const name of ["www.example.com", "a.db.example", "a.b.db.example"])
    assert.equal(decideQuery(question(name), listed).kind, "ask", name);
  for (const name of ["example.com", "a.www.example.com", "db.example", "notdb.example", "", "8.8.8.8.in-addr.arpa"])
    for (const type of ["A", "TXT", "PTR", "TYPE65"]) {
      const decision = decideQuery(question(name, type), listed);
      assert.ok(decision.kind === "reply", name);
      assert.deepEqual([decision.reply.rcode, decision.reply.records], ["NXDOMAIN", []]);
      assert.equal(decision.reply.blocked, "not in the egress list");
    }
  const own = decideQuery(question("web.ebb.internal"), listed);
  assert.ok(own.kind === "reply" && own.reply.records.length === 1);
  const inner = decideQuery(question("db.internal"), listed);
  assert.ok(inner.kind === "reply" && inner.reply.blocked === "none is permitted");
  assert.equal(decideQuery(question("db.internal"), { ...listed, permits: permitsOf(["10.0.0.0/24:80"]) }).kind, "ask");
});

void test("with a list an address is told where one of the name's ports may be reached there, and not otherwise", () => {
  const name = fc.constantFrom("www.example.com", "x.db.example");
  const data = fc.oneof(fc.ipV4(), fc.constantFrom("10.0.0.5", "10.0.1.5", "127.0.0.1", "169.254.169.254", "nonsense"));
  const permit = fc.subarray(["10.0.0.0/24:443", "10.0.1.0/24:5432", "10.0.0.0/16:443/udp"]);
  fc.assert(
    fc.property(name, fc.array(data, { maxLength: 10 }), permit, (asked, addresses, texts) => {
      const rules = { ...listed, permits: permitsOf(texts) };
      const answer = upstream(addresses.map((address) => a(asked, address)));
      const { reply, opened } = decideAnswer(question(asked), rules, answer, 0);
      const port = asked === "www.example.com" ? 443 : 5432;
      const permitted = texts
        .filter((text) => text.endsWith(`:${port}`))
        .map((text) => parseCidr(text.split(":")[0]!)!);
      const expected = addresses.filter((address) => {
        const value = parseAddress(address);
        return value !== null && isReachable(value, permitted);
      });
      assert.deepEqual(
        opened.map(({ address }) => address),
        expected,
      );
      assert.deepEqual(
        reply.records.map((record) => record.data),
        expected,
      );
      assert.equal(reply.blocked === null, expected.length === addresses.length);
    }),
  );
});

void test("no more addresses are told than may be open at a time", () => {
  const wide: Rules = {
    ...internet,
    egress: entriesOf(Array.from({ length: 40 }, (_, i) => `www.example.com:${1_000 + i}`)),
  };
  const answer = upstream(Array.from({ length: 20 }, (_, i) => a("www.example.com", `20.0.0.${i + 1}`)));
  const { opened, reply } = decideAnswer(question("www.example.com"), wide, answer, 0);
  assert.equal(opened.length, Math.floor(resolverLimits.openings / 40));
  assert.equal(reply.records.length, opened.length);
});

void test("IPv6, service hints, keys and everything unknown are answered empty", () => {
  for (const type of ["AAAA", "TYPE65", "TYPE64", "TYPE255", "TYPE48", "TYPE65535"]) {
    const decision = decideQuery(question("www.example.com", type), internet);
    assert.ok(decision.kind === "reply", type);
    assert.deepEqual([decision.reply.rcode, decision.reply.records], ["NOERROR", []]);
  }
});

void test("names of the host's network and reverse names of private addresses are not asked", () => {
  for (const [name, type] of [
    ["printer", "A"],
    ["printer.local", "A"],
    ["x.onion", "A"],
    ["5.0.0.10.in-addr.arpa", "PTR"],
    ["1.0.18.198.in-addr.arpa", "PTR"],
    ["8.8.8.in-addr.arpa", "PTR"],
    ["1.0.0.0.ip6.arpa", "PTR"],
  ] as const) {
    const decision = decideQuery(question(name, type), internet);
    assert.ok(decision.kind === "reply" && decision.reply.rcode === "NXDOMAIN", name);
  }
  assert.equal(decideQuery(question("8.8.8.8.in-addr.arpa", "PTR"), internet).kind, "ask");
});

void test("of the zones of private networks nothing is asked, whatever the type; where the operator opened one, addresses are", () => {
  const permitted = { ...internet, permits: permitsOf(["10.0.0.0/24"]) };
  for (const zone of ["internal", "lan", "corp", "home", "intranet", "private", "localdomain", "home.arpa"])
    for (const type of ["A", "TXT", "MX", "SRV", "NS", "SOA", "CNAME"]) {
      const name = `db.${zone}`;
      const decision = decideQuery(question(name, type), internet);
      assert.ok(decision.kind === "reply" && decision.reply.rcode === "NXDOMAIN", `${type} ${name}`);
      if (zone !== "home.arpa")
        assert.equal(
          decideQuery(question(name, type), permitted).kind,
          type === "A" ? "ask" : "reply",
          `${type} ${name}`,
        );
    }
  for (const type of ["A", "TXT", "NS", "SOA"])
    assert.equal(decideQuery(question("dc01", type), internet).kind, "reply", "of a name without a dot");
  assert.equal(decideQuery(question("", "NS"), internet).kind, "ask");
});

void test("of the domains in which the host itself looks for names, addresses alone are asked", () => {
  const rules = { ...internet, hostDomains: ["corp.example.com"] };
  for (const type of ["TXT", "MX", "SRV", "NS", "SOA", "CNAME", "NAPTR", "CAA", "PTR"]) {
    const decision = decideQuery(question("_ldap._tcp.corp.example.com", type), rules);
    assert.ok(decision.kind === "reply", type);
    assert.deepEqual([decision.reply.rcode, decision.reply.records], ["NOERROR", []]);
    assert.match(decision.reply.blocked!, /host's own network/);
  }
  assert.equal(decideQuery(question("www.corp.example.com"), rules).kind, "ask");
  assert.equal(decideQuery(question("example.com", "MX"), rules).kind, "ask");
});

void test("an alias from outside opens no way to the records of an inner name", () => {
  const rules = { ...internet, hostDomains: ["corp.example.com"] };
  for (const inner of ["dc.corp.example.com", "dc.lan", "dc"]) {
    const text = { name: inner, type: "TXT", ttlSeconds: 60, data: ["secret"] };
    const { reply } = decideAnswer(
      question("evil.example", "TXT"),
      rules,
      upstream([cname("evil.example", inner), text]),
      0,
    );
    assert.deepEqual([reply.records, reply.blocked], [[], "1 record withheld: of the host's own network"], inner);
  }
});

void test("of an inner name that has no public address neither its aliases nor its zone are told, of one that has they are", () => {
  const rules = { ...internet, hostDomains: ["example.com"] };
  const asked = question("www.example.com");
  const alias = cname("www.example.com", "web7.example.com");
  const authority = [soa(60, 60)];
  for (const rcode of ["NOERROR", "NXDOMAIN"] as const) {
    const { reply } = decideAnswer(asked, rules, upstream([alias], { rcode, authority }), 0);
    assert.deepEqual([reply.records, reply.authority], [[], []]);
  }
  const found = upstream([alias, a("web7.example.com", "20.0.0.10")]);
  assert.deepEqual(decideAnswer(asked, rules, found, 0).reply.records, found.records);
});

void test("no address that is not reachable is ever told, and just the told ones are opened", () => {
  const name = fc.constantFrom("www.example.com", "a.example.com", "b.example.com");
  const data = fc.oneof(
    fc.ipV4(),
    fc.constantFrom("10.0.0.1", "127.0.0.1", "169.254.169.254", "198.18.0.7", "nonsense"),
  );
  const record: fc.Arbitrary<AnswerRecord> = fc.oneof(
    fc.tuple(name, data, fc.nat()).map(([at, to, ttl]) => a(at, to, ttl)),
    fc.tuple(name, name).map(([at, to]) => cname(at, to)),
    fc.tuple(name, fc.anything()).map(([at, junk]) => ({ name: at, type: "CNAME", ttlSeconds: 1, data: junk })),
  );
  fc.assert(
    fc.property(fc.array(record, { maxLength: 30 }), fc.nat(10_000), (records, age) => {
      const { reply, opened } = decideAnswer(question("www.example.com"), internet, upstream(records), age);
      const told = reply.records.filter((one) => one.type === "A");
      for (const one of told) assert.ok(isReachable(parseAddress(String(one.data))!, []));
      assert.deepEqual(
        opened,
        told.map((one) => ({ address: one.data, ttlSeconds: one.ttlSeconds })),
      );
      for (const one of reply.records) assert.ok(one.ttlSeconds >= 0 && one.ttlSeconds <= 3_600);
    }),
  );
});

void test("a public name for private addresses has none, and the reason is said", () => {
  const records = [cname("www.example.com", "db.corp.example.com"), a("db.corp.example.com", "10.0.0.5")];
  const { reply, reasons } = decideAnswer(question("www.example.com"), internet, upstream(records), 0);
  assert.deepEqual(reply, { rcode: "NOERROR", records: [], authority: [], blocked: "1 address withheld: not public" });
  assert.deepEqual(reasons, ["10.0.0.5 is not reachable"]);
  const permitted = { ...internet, permits: permitsOf(["10.0.0.0/24"]) };
  assert.deepEqual(decideAnswer(question("www.example.com"), permitted, upstream(records), 0).reply.records, records);
});

void test("records that do not belong to the chain of the question are dropped", () => {
  const records = [a("www.bank.example", "20.0.0.66"), a("www.example.com", "20.0.0.10")];
  const { reply } = decideAnswer(question("www.example.com"), internet, upstream(records), 0);
  assert.deepEqual(reply.records, [records[1]]);
});

function told(ttl: number, age: number): number | undefined {
  const answer = upstream([a("x.example", "20.0.0.1", ttl)]);
  return decideAnswer(question("x.example"), internet, answer, age).reply.records[0]?.ttlSeconds;
}

void test("times to live shrink with age and stay in bounds", () => {
  assert.equal(told(60, 10), 50);
  assert.equal(told(1_000_000, 0), 3_600);
  assert.equal(told(5, 10), 0);
});

void test("failures of upstream are SERVFAIL and not kept", () => {
  for (const rcode of ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"] as const) {
    const answer = upstream([a("x.example", "20.0.0.1")], { rcode });
    const { reply } = decideAnswer(question("x.example"), internet, answer, 0);
    assert.deepEqual([reply.rcode, reply.records], ["SERVFAIL", []]);
    assert.equal(keepSeconds(question("x.example"), answer), 0);
  }
});

const soa = (ttlSeconds: number, minimum: number): AnswerRecord => ({
  name: "example",
  type: "SOA",
  ttlSeconds,
  data: { mname: "ns.example", rname: "root.example", serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});

void test("answers are kept for their time to live in bounds, negative ones for that of their zone", () => {
  const q = question("x.example");
  assert.equal(keepSeconds(q, upstream([a("x.example", "20.0.0.1", 60)])), 60);
  assert.equal(keepSeconds(q, upstream([a("x.example", "20.0.0.1", 0)])), 1);
  assert.equal(keepSeconds(q, upstream([a("x.example", "20.0.0.1", 86_400)])), 3_600);
  assert.equal(keepSeconds(q, upstream([], { rcode: "NXDOMAIN", authority: [soa(900, 30)] })), 30);
  assert.equal(keepSeconds(q, upstream([], { rcode: "NXDOMAIN", authority: [soa(900, 86_400)] })), 300);
  assert.equal(keepSeconds(q, upstream([])), 1);
  assert.equal(keepSeconds(q, upstream([a("x.example", "20.0.0.1")], { truncated: true })), 0);
});
