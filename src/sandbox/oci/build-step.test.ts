// One command of a build, in a sandbox of its own: its time, its end, and what is taken of it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Image } from "#images/door.ts";
import { openGround, ociOn, plainLinks, whyNot, type Ground } from "../fixtures/harness.ts";
import { imageOf, writePrograms } from "../fixtures/images.ts";
import type { BuildStep } from "../door.ts";
import type { OciDriver } from "./oci.ts";

const skip = whyNot(["/usr/sbin/ip", "/bin/busybox"]) ?? false;
const MiB = 1024 * 1024;
const links = plainLinks();
let ground: Ground;
let driver: OciDriver;
let of: Image;

before(async () => {
  if (skip !== false) return;
  ground = await openGround();
  of = imageOf([await writePrograms(join(ground.dataDir, "layers", "base"))]);
  driver = ociOn(ground, { network: links });
  await driver.start();
});
after(async () => {
  if (skip !== false) return;
  await driver.stop();
  await ground.close();
  links.close();
});

test(
  "a command of a build ends at its time or when it is given up, and what it changed is taken before it goes",
  { skip },
  async () => {
    const step = (script: string, over: Partial<Pick<BuildStep, "timeoutMs" | "signal" | "env" | "keep">> = {}) =>
      driver.build({
        project: "default",
        image: of,
        command: ["/bin/sh", "-c", script],
        env: {},
        egress: "none",
        memoryMb: 64,
        writableBytes: 8 * MiB,
        timeoutMs: 60_000,
        signal: new AbortController().signal,
        output: () => {},
        keep: (changes, firstId) => ({
          argv: [
            "/bin/sh",
            "-c",
            'cat "$1/made"; stat -c " $(($(stat -c %u "$1/made") - $2))" "$1/made"',
            "sh",
            changes,
            String(firstId),
          ],
          stdin: "",
          timeoutMs: 10_000,
        }),
        ...over,
      });
    const open = links.open;
    assert.deepEqual(await step("printf new > /made; chown 7 /made"), { ok: true, kept: "new 7\n" });
    assert.deepEqual(await step("exec sleep 3600", { timeoutMs: 300 }), {
      ok: false,
      reason: "timeout",
      message: "It took longer than 0.3 s.",
    });
    await assert.rejects(step("exec sleep 3600", { signal: AbortSignal.timeout(300) }), { name: "TimeoutError" });
    // Its order cannot be written: it is not left waiting for one.
    await assert.rejects(step("true", { env: { "no name": "" } }), /impossible name/);
    // What takes its changes is given up with it.
    const given = new AbortController();
    const slow = { argv: ["/bin/sh", "-c", "exec sleep 3600"], stdin: "", timeoutMs: 3_600_000 };
    const giveUp = setInterval(() => given.abort(), 300);
    await assert.rejects(step("true", { signal: given.signal, keep: () => slow }), { name: "AbortError" });
    clearInterval(giveUp);
    assert.equal(links.open, open);
  },
);
