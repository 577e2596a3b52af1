// What a list and a permit open together: the permits that are refused, what is asked of the operator, and what holds for all of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { formatAddress, formatCidr, isReachable, neverPermitted, overlaps, parseAddress } from "./address.ts";
import {
  entriesOf,
  grantsOf,
  permitsOf,
  portsAt,
  readEntry,
  readPermit,
  refuseEntry,
  type Entry,
  type Grant,
} from "./egress.ts";

const entry = (text: string): Entry => {
  const read = readEntry(text);
  assert.ok(read.ok, text);
  return read.value;
};
const granted = (egress: "internet" | readonly string[], ...permits: readonly string[]): readonly string[] =>
  grantsOf(egress, permitsOf(permits)).map(textOf);
const textOf = ({ cidr, port }: Grant): string =>
  formatCidr(cidr) + (port === null ? "" : ` ${port.protocol} ${port.number}`);

void test("permits for loopback, metadata or nonsense are refused", () => {
  for (const permit of ["127.0.0.1", "169.254.0.0/16", "0.0.0.0/0", "10.0.0.1/8", "lan", "20.0.0.0/8"])
    assert.equal(readPermit(permit).ok, false, permit);
  for (const [permit, why] of [
    ["10.0.0.1/8", /the network is 10\.0\.0\.0\/8$/],
    ["20.0.0.0/8", /public, and open without a permit/],
    ["100.64.0.0/10", /100\.100\.100\.200 is in it .* which nothing opens/],
    ["10.0.0.0/8:25", /port 25/],
    ["10.0.0.0/8:0", /from 1 to 65535/],
    ["10.0.0.0/8:80-90", /range/],
    ["[fd00::1]:80", /IPv6/],
    ["db.internal:5432", /no IPv4 address or network/],
    ["", /no IPv4 address or network/],
  ] as const) {
    const read = readPermit(permit);
    assert.ok(!read.ok, permit);
    assert.match(read.why, why);
  }
  for (const [permit, text] of [
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["10.1.2.3/32:5432", "10.1.2.3:5432"],
    ["192.168.0.0/16:53/udp", "192.168.0.0/16:53/udp"],
  ] as const) {
    const read = readPermit(permit);
    assert.ok(read.ok && read.value.text === text, permit);
  }
});

void test("an entry that no permit covers is refused with what to ask the operator for; a public one needs none", () => {
  const permits = permitsOf(["10.9.0.0/16:5432"]);
  for (const text of ["8.8.8.8:53/udp", "www.example.com:443", "10.9.1.0/24:5432", "db.internal:5432"])
    assert.equal(refuseEntry(entry(text), "photos", permits), null, text);
  assert.equal(
    refuseEntry(entry("10.1.0.0/16:6379"), "photos", permits),
    '10.1.0.0/16 is not public, and not permitted to project "photos"; ' +
      "ask the operator for: ebb projects set photos --egress-permit 10.9.0.0/16:5432,10.1.0.0/16:6379",
  );
  for (const text of ["10.9.0.0/16:5433", "10.9.0.0/16:5432/udp", "10.8.0.0/15:5432", "8.0.0.0/6:5432", "db.lan:80"])
    assert.match(refuseEntry(entry(text), "photos", permits) ?? "", /ask the operator for: /, text);
  assert.match(
    refuseEntry(entry("db.internal:80"), "photos", []) ?? "",
    /^db\.internal is a name of a private network, .* --egress-permit NETWORK:80$/,
  );
});

void test("a list is open where it is public, or where it meets a permit at its port; internet adds the permits", () => {
  assert.deepEqual(granted(["10.0.0.0/8:80", "20.0.0.0/24:443"]), ["20.0.0.0/24 tcp 443"]);
  assert.deepEqual(granted(["10.0.0.0/8:80"], "10.1.0.0/16", "10.2.0.0/16:80", "10.3.0.0/16:443"), [
    "10.1.0.0/16 tcp 80",
    "10.2.0.0/16 tcp 80",
  ]);
  assert.deepEqual(granted(["10.1.2.0/24:80"], "10.1.0.0/16"), ["10.1.2.0/24 tcp 80"]);
  assert.deepEqual(granted("internet", "10.1.0.0/16:80", "10.2.0.0/16"), ["10.1.0.0/16 tcp 80", "10.2.0.0/16"]);
  assert.deepEqual(grantsOf("none", permitsOf(["10.1.0.0/16"])), []);
});

const prefix = fc.integer({ min: 6, max: 32 });
const network = fc
  .tuple(fc.constantFrom("10.1.2.3", "10.200.0.9", "8.8.8.8", "127.0.0.1", "192.168.7.7"), prefix)
  .map(([address, bits]) => {
    const base = (parseAddress(address)! & (0xffff_ffff << (32 - bits))) >>> 0;
    return `${formatAddress(base)}/${bits}`;
  });
const port = fc.constantFrom(":80", ":443", ":443/udp");
const lists = fc
  .array(
    fc.tuple(network, port).map(([net, at]) => net + at),
    { maxLength: 8 },
  )
  .map((texts) => texts.filter((text) => readEntry(text).ok));
const permitted = fc.array(
  fc.tuple(network, fc.option(port, { nil: "" })).map(([net, at]) => net + at),
  { maxLength: 5 },
);

void test("no grant lies within another, opens what nothing may, or opens what is neither public nor permitted", () => {
  fc.assert(
    fc.property(lists, permitted, (list, permitTexts) => {
      const permits = permitsOf(permitTexts);
      for (const egress of [list, "internet"] as const) {
        const grants = grantsOf(egress, permits);
        for (const [at, { cidr, port: open }] of grants.entries()) {
          assert.ok(!neverPermitted.some((never) => overlaps(never, cidr)), textOf(grants[at]!));
          const cidrs = permits
            .filter(
              (one) =>
                one.port === null ||
                (open !== null && one.port.number === open.number && one.port.protocol === open.protocol),
            )
            .map((one) => one.cidr);
          const last = cidr.base + 2 ** (32 - cidr.prefix) - 1;
          for (const address of [cidr.base, last]) assert.ok(isReachable(address, cidrs), textOf(grants[at]!));
          const same = grants.filter(
            (one, i) =>
              i !== at && textOf({ ...one, cidr }) === textOf({ port: open, cidr }) && overlaps(one.cidr, cidr),
          );
          assert.deepEqual(same, []);
        }
      }
    }),
  );
});

void test("the ports of an address are those of the entries that name it, where it is public or permitted", () => {
  const entries = entriesOf(["db.example.com:5432", "*.example.com:443", "db.example.com:443", "10.0.0.5:80"]);
  assert.ok(typeof entries !== "string");
  const at = (name: string, address: string, ...permits: string[]): readonly string[] =>
    portsAt(entries, permitsOf(permits), name, parseAddress(address)!).map((one) => `${one.protocol} ${one.number}`);
  assert.deepEqual(at("db.example.com", "20.0.0.1"), ["tcp 5432", "tcp 443"]);
  assert.deepEqual(at("a.b.example.com", "20.0.0.1"), ["tcp 443"]);
  for (const name of ["example.com", "notexample.com", "db.example.org", ""])
    assert.deepEqual(at(name, "20.0.0.1"), []);
  assert.deepEqual(at("db.example.com", "10.0.0.5"), []);
  assert.deepEqual(at("db.example.com", "10.0.0.5", "10.0.0.0/24:5432"), ["tcp 5432"]);
  for (const never of ["127.0.0.1", "169.254.169.254", "100.100.100.200", "224.0.0.1", "0.0.0.0"])
    assert.deepEqual(at("db.example.com", never, "10.0.0.0/8"), []);
});
