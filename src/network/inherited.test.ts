// What nft says is open to a link is read, and can be said to nft again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { elementsOf, readAnswered, replacedTable } from "./inherited.ts";

const answered = `table inet ebb01234567 {
	set answered {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service
		size 64
		flags timeout
		elements = { 198.18.0.3 . 1.2.3.4 . tcp . 443 timeout 1m30s expires 1m28s968ms,
			     198.18.0.33 . 1.2.3.4 . tcp . 443 timeout 1m30s expires 2s }
	}
}
`;

test("elements of the links that live on are kept with their time, those of others are not", () => {
  assert.deepEqual(elementsOf(answered, ["198.18.0.3"]), [
    "198.18.0.3 . 1.2.3.4 . tcp . 443 timeout 1m30s expires 1m28s968ms",
  ]);
  assert.deepEqual(elementsOf(answered, []), []);
  assert.deepEqual(elementsOf("table inet x {\n\tset granted {\n\t}\n}\n", ["198.18.0.3"]), []);
});

test("an answered address is read from its element", () => {
  assert.deepEqual(readAnswered("198.18.0.3 . 1.2.3.4 . udp . 53 timeout 1m expires 2s"), {
    link: "198.18.0.3",
    answered: { address: "1.2.3.4", port: { protocol: "udp", number: 53 } },
  });
  for (const strange of ["", "198.18.0.3", "198.18.0.3 . x . tcp . 1", "198.18.0.3 . 1.2.3.4 . icmp . 1"])
    assert.equal(readAnswered(strange), null, strange);
});

test("the table is replaced in one transaction, with what lives on in it", () => {
  const link = {
    id: "1",
    egress: "internet",
    index: 0,
    device: "e1",
    mark: 7,
    namespacePath: "/run/x/1",
    address: "198.18.0.3",
    gateway: "198.18.0.1",
  } as const;
  const text = replacedTable("ebb0", "table inet ebb0 { }", [link], {
    granted: ["a . b"],
    granted_all: [],
    answered: [],
  });
  assert.match(text, /^add table inet ebb0\ndelete table inet ebb0\ntable inet ebb0 \{ \}\n/);
  assert.match(text, /add element inet ebb0 live \{ 198\.18\.0\.3 \. 7 \}/);
  assert.match(text, /add element inet ebb0 granted \{ a \. b \}/);
});
