// Addresses and subnets: arithmetic that holds for all of them, and where a subnet may not lie.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { contains, formatAddress, formatCidr, isReachable, overlaps, parseAddress, parseCidr } from "#model/address.ts";
import { Addresses, layoutOf, refuseSubnet, routesInUse, subnetCount, subnetOf, uplinksOf } from "./subnet.ts";

const address = fc.integer({ min: 0, max: 0xffff_ffff });
const cidr = fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([base, prefix]) => {
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(base / size) * size, prefix };
});

void test("what is written of an address or a network is read as the same", () => {
  fc.assert(fc.property(address, (value) => assert.equal(parseAddress(formatAddress(value)), value)));
  fc.assert(fc.property(cidr, (value) => assert.deepEqual(parseCidr(formatCidr(value)), value)));
});

void test("only strict dotted quads are addresses", () => {
  for (const text of [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "256.1.1.1",
    "0x7f.0.0.1",
    "2130706433",
    " 1.2.3.4",
    "1.2.3.4\n",
  ])
    assert.equal(parseAddress(text), null, JSON.stringify(text));
  for (const text of ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/", "/8"])
    assert.equal(parseCidr(text), null, text);
});

void test("networks overlap exactly when some address is in both", () => {
  fc.assert(
    fc.property(cidr, cidr, (a, b) => {
      const bothHold = [a.base, b.base].some((one) => contains(a, one) && contains(b, one));
      assert.equal(overlaps(a, b), bothHold);
      assert.equal(overlaps(a, b), overlaps(b, a));
    }),
  );
});

void test("subnets of different numbers never overlap, are all private, and lie in no two places", () => {
  const number = fc.integer({ min: 0, max: subnetCount - 1 });
  fc.assert(
    fc.property(number, number, (a, b) => {
      assert.equal(overlaps(subnetOf(a), subnetOf(b)), a === b);
      const layout = layoutOf(subnetOf(a));
      const { subnet, hosts, gateway, router } = layout;
      const all = [gateway, router, layout.host(0), layout.host(hosts - 1)].map((text) => parseAddress(text)!);
      assert.equal(new Set(all).size, 4);
      for (const one of all) {
        assert.ok(contains(subnet, one));
        assert.ok(!isReachable(one, []), "an instance reaches no subnet of any daemon");
      }
    }),
  );
  assert.throws(() => subnetOf(subnetCount), RangeError);
  const layout = layoutOf(subnetOf(0));
  assert.throws(() => layout.host(layout.hosts), RangeError);
  assert.throws(() => layout.host(-1), RangeError);
});

void test("private, local, metadata and reserved addresses are not reachable, their public neighbours are", () => {
  const closed =
    "0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.255 168.63.129.16 169.254.169.254 169.254.170.2 " +
    "172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255";
  for (const text of closed.split(" ")) assert.equal(isReachable(parseAddress(text)!, []), false, text);
  const open =
    "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255 172.32.0.0 223.255.255.255";
  for (const text of open.split(" ")) assert.equal(isReachable(parseAddress(text)!, []), true, text);
});

const routes = `default via 192.168.1.1 dev eth0 proto dhcp
default dev wg0 table 51820 scope link
192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.7
198.18.0.0/16 dev tun0 scope link
unreachable 198.19.0.0/17
local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
local 198.19.128.5 dev eth1 table local
100.64.3.0/24 dev tailscale0 table 52
198.19.192.0/20 via 198.19.192.2 dev ebb0a0a0a0a src 198.19.192.1
`;

void test("a subnet is refused where the machine has a route or an address, and its neighbours are not", () => {
  const inUse = routesInUse(routes);
  const refusal = (text: string, resolvers: readonly string[] = []): string | null =>
    refuseSubnet(parseCidr(text)!, inUse, resolvers, "ebb");
  assert.match(refusal("198.18.32.0/20") ?? "", /198\.18\.0\.0\/16/);
  assert.match(refusal("198.19.16.0/20") ?? "", /198\.19\.0\.0\/17/);
  assert.match(refusal("198.19.128.0/20") ?? "", /198\.19\.128\.5\/32/);
  assert.match(refusal("198.19.192.0/20") ?? "", /198\.19\.192\.0\/20/);
  assert.equal(refusal("198.19.144.0/20"), null);
  assert.match(refusal("198.19.144.0/20", ["198.19.144.1"]) ?? "", /resolver/);
});

void test("a machine that is in part of 100.64.0.0/10 has all of it left alone, other ebb daemons apart", () => {
  const subnet = parseCidr("100.80.0.0/20")!;
  assert.match(refuseSubnet(subnet, routesInUse(routes), [], "ebb") ?? "", /100\.64\.3\.0\/24/);
  assert.match(refuseSubnet(subnet, [], ["100.100.2.136"], "ebb") ?? "", /100\.100\.2\.136/);
  assert.equal(refuseSubnet(subnet, routesInUse("100.64.16.0/20 via 100.64.16.2 dev ebb0a0a0a0a"), [], "ebb"), null);
});

void test("the ways to the internet are the devices of default routes, in every table, a VPN's halves and each hop", () => {
  assert.deepEqual(uplinksOf(routes, "ebb"), ["eth0", "wg0"]);
  assert.deepEqual(uplinksOf("0.0.0.0/1 via 10.8.0.1 dev tun1\n128.0.0.0/1 via 10.8.0.1 dev tun1", "ebb"), ["tun1"]);
  assert.deepEqual(
    uplinksOf("default proto static\n\tnexthop via 1.1.1.1 dev a0 weight 1\n\tnexthop via 2.2.2.2 dev b0", "ebb"),
    ["a0", "b0"],
  );
  assert.deepEqual(uplinksOf("", "ebb"), []);
});

void test("an address rests as long as there are others", () => {
  const addresses = new Addresses(3);
  assert.deepEqual([addresses.take(), addresses.take()], [0, 1]);
  addresses.giveBack(0);
  assert.deepEqual([addresses.take(), addresses.take(), addresses.take()], [2, 0, null]);
});
