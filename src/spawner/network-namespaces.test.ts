// Network namespaces by system calls: what is refused is said by its name, and this process is where it was whatever happens.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { NetworkThing } from "./door.ts";
import { changeNetworks, unpin } from "./network-namespaces.ts";
import { createSyscalls, mountsBelow } from "./syscalls.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

test("what the kernel refuses is told with its thing, and leaves this process at home", { skip }, async () => {
  const system = createSyscalls({ ffi: true });
  const folder = mkdtempSync(join(tmpdir(), "ebb-namespaces-"));
  const pin = join(folder, "one");
  const home = readlinkSync("/proc/thread-self/ns/net");
  const pair = (namespace: string): NetworkThing => ({
    kind: "pair",
    device: "a",
    hardware: "02:eb:00:00:00:01",
    peer: { device: "b", hardware: "02:eb:00:00:00:02", namespace },
  });
  const refused: ReadonlyArray<[NetworkThing, RegExp]> = [
    [{ kind: "up", device: "none" }, /^up none: if_nametoindex none: ENODEV$/],
    [{ kind: "address", device: "a", address: "10.0.0.2" }, /^address a: netlink: EEXIST$/],
    [{ kind: "route", device: "a", to: null, via: "10.0.0.1" }, /^route a: netlink: ENETDOWN$/],
    [pair(pin), /^pair a: netlink: EEXIST$/],
    [pair(folder), /^pair a: netlink: /],
    [pair(join(folder, "nowhere")), /^pair a: ENOENT/],
    [{ kind: "switch", name: "ipv4/nothing", value: "1" }, /^switch ipv4\/nothing: ENOENT/],
  ];
  try {
    const things: NetworkThing[] = [pair(pin), { kind: "address", device: "a", address: "10.0.0.2" }];
    await changeNetworks([{ namespace: pin, fresh: true, things }], system);
    for (const [thing, words] of refused) {
      const asked = changeNetworks([{ namespace: pin, things: [thing] }], system);
      await assert.rejects(asked, (error: Error) => words.test(error.message) || assert.fail(error.message));
      assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
    }
    await assert.rejects(changeNetworks([{ namespace: pin, fresh: true, things: [] }], system), { code: "EEXIST" });
    await assert.rejects(changeNetworks([{ namespace: folder, things: [] }], system), /setns: EINVAL/);
    assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
  } finally {
    unpin([pin, join(folder, "nowhere")], system);
    assert.ok(!existsSync(pin));
    assert.deepEqual(mountsBelow(folder), []);
    rmSync(folder, { recursive: true });
  }
});
