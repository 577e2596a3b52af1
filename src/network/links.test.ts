// Links that are taken away, against a firewall that is a map: what cannot be closed keeps its own address, and nobody else's.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle } from "#lib/virtual-clock.ts";
import { Links } from "./links.ts";
import { layoutOf, subnetOf } from "./subnet.ts";

function world(): { links: Links; refused: Set<string>; closing: Map<string, readonly string[]>; failures: unknown[] } {
  const refused = new Set<string>();
  const closing = new Map<string, readonly string[]>();
  const failures: unknown[] = [];
  const links = new Links({
    spawner: {
      exec: async () => ({ code: 0, signal: null, stdout: "", stderr: "", truncated: false, timedOut: false }),
      // Its lines are transactions; the others are taken all the same.
      nft: async (script) => {
        const wrong = script.split("\n").filter((line) => refused.has(line));
        if (wrong.length > 0) throw new Error(`refused: ${wrong.join()}`);
      },
      owe: async () => undefined,
      network: async () => undefined,
      unpin: async () => undefined,
      untouched: async () => true,
    },
    directory: "/nowhere",
    table: "t",
    layout: layoutOf(subnetOf(0)),
    addresses: 2,
    closing: (address) => closing.get(address) ?? [],
    failed: (error) => void failures.push(error),
  });
  return { links, refused, closing, failures };
}

test("a link to which something may be open still keeps its address until it is closed, and holds up no other", async () => {
  const { links, refused, closing, failures } = world();
  const [open, other] = await links.make("none", 2);
  closing.set(open!.address, ["close it"]);
  refused.add("close it");
  links.remove([open!.id, other!.id]);
  await links.stop();
  assert.equal(failures.length, 1);
  const [next, none] = await links.make("none", 2);
  assert.deepEqual([next?.address, none], [other!.address, undefined], "one address is free again");
  refused.clear();
  links.remove([next!.id]);
  await links.stop();
  await settle();
  assert.equal((await links.make("none", 2)).length, 2);
});
