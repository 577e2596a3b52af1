// Class gvisor in short, with the shims that functions really have; all of the suite is in gvisor.soak.ts.

import assert from "node:assert/strict";
import { closeSync, constants, existsSync, openSync, readSync } from "node:fs";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { after, before, describe, test } from "node:test";
import { gvisorOn, ociOn, openGround, plainLinks, whyNot, type Ground } from "../fixtures/harness.ts";
import type { SandboxDriver } from "../door.ts";
import { listens } from "../listens.ts";
import { assignmentOf, get, poolOf, startAhead } from "../suite.ts";
import { findCgroups } from "./cgroups.ts";
import { findRunsc, noRunsc, shimPort } from "./gvisor.ts";
import type { OciDriver } from "./oci.ts";

describe("class gvisor", { skip: whyNot(["/usr/sbin/ip"]) ?? false }, () => {
  let ground: Ground;
  let oci: OciDriver;
  let driver: SandboxDriver;
  let address = "";
  const links = plainLinks();
  before(async () => {
    ground = await openGround();
    const runtimes = fileURLToPath(new URL("../../../runtimes", import.meta.url));
    const take: typeof links.take = async (egress) => {
      const link = await links.take(egress);
      ({ address } = link);
      return link;
    };
    oci = ociOn(ground, { network: { ...links, take }, runtimes });
    await oci.start();
    driver = gvisorOn(oci);
  });
  after(async () => {
    await oci.stop();
    await ground.close();
    links.close();
  });

  test("serves on a kernel of its own whoever shows the credential, and leaves nothing", async (t) => {
    if ((await findRunsc()) === null) {
      assert.equal(await oci.gvisor.problem(), noRunsc);
      return t.skip("no runsc");
    }
    assert.equal(await oci.gvisor.problem(), null);
    const code = `import os from "node:os"; import fs from "node:fs";
      export default (request) => { if (request.url.endsWith("/hang")) return new Promise(() => {}); console.log("said"); return Response.json([os.release(), fs.readFileSync(0, "utf8"), process.env.EBB_LISTEN ?? null]); };`;
    const sandbox = await startAhead(driver, poolOf("node26"));
    const source = driver.output(sandbox.id);
    assert.ok(source.kind === "fifo" && source.frames !== null);
    const frames = openSync(source.frames, constants.O_RDWR | constants.O_NONBLOCK);
    // It waits for its code for a while, as those of the pool do.
    assert.ok(await listens(address, shimPort, t.signal));
    const over = { entry: "index.mjs", handler: null, concurrency: 2 };
    const ready = await driver.assign(sandbox.id, assignmentOf(await ground.code(code, "index.mjs"), over));
    assert.ok(ready.ok, ready.ok ? "" : ready.failure.message);
    const { body } = await get(driver, sandbox.id, "/", { "ebb-invocation-id": "i1" });
    assert.deepEqual(JSON.parse(body), ["4.4.0", "", null]);
    const frame = Buffer.alloc(1_024);
    assert.match(frame.toString("utf8", 0, readSync(frames, frame)), /"m":"said\\n"/);
    closeSync(frames);

    const stranger = connect({ host: address, port: shimPort }, () =>
      stranger.write(`${"0".repeat(64)}\nGET / HTTP/1.1\r\n\r\n`),
    );
    let answered = "";
    stranger.on("data", (bytes) => (answered += bytes.toString())).on("error", () => {});
    await new Promise((resolve) => void stranger.once("close", resolve));
    assert.equal(answered, "");

    // Killed, its network stack tells nobody; the call that was in it ends all the same.
    const hanging = assert.rejects(get(driver, sandbox.id, "/hang"));
    await driver.stopSandbox(sandbox.id, 0);
    assert.equal((await sandbox.exited).reason, "killed");
    await hanging;
    const { runDir } = ground.allocator;
    const { paths } = findCgroups(`ebb-${runDir.slice(runDir.lastIndexOf("/") + 1)}`).parent(1);
    assert.deepEqual(
      paths.map((path) => `${path}/${sandbox.id}`).filter((path) => existsSync(path)),
      [],
    );
  });
});
