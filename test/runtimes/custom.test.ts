// Runtime custom has no shim, so its contract is the driver's: any program that serves HTTP on $PORT, in a sandbox with a link.

import { after, test } from "node:test";
import { plainLinks, whyNot as whyNotHere } from "#sandbox/fixtures/harness.ts";
import { programSuite } from "../../runtimes/suite/program.ts";
import { openSandboxes, whyNoSandbox } from "./sandboxed.ts";
import { copyTree } from "./tree.ts";
import { randomHex } from "#model/ids.ts";

const whyNot = (await whyNoSandbox()) ?? whyNotHere(["/usr/sbin/ip"]);

if (whyNot === null) {
  const links = plainLinks();
  const sandboxes = await openSandboxes({ network: links });
  const { driver, ground } = sandboxes;
  after(async () => {
    await sandboxes.close();
    links.close();
  });
  programSuite(driver, async (folder) => {
    const digest = randomHex(16);
    copyTree(folder, ground.folderOf(digest));
    return digest;
  });
} else test("runtime custom in real sandboxes", { skip: whyNot }, () => {});
