// One program run to its end in a sandbox of its own, without a network: transpiling, and the proof of isolation.

import { closeSync, constants, openSync } from "node:fs";
import { EbbError } from "#model/errors.ts";
import type { OneOff, OneOffResult } from "../door.ts";
import { oneOffResult, readFifo, type Reader } from "../one-off.ts";
import { baseEnv } from "../shims.ts";
import { oneCpu } from "./cgroups.ts";
import { engineError } from "./engine.ts";
import type { OciDriver } from "./oci.ts";

const stderrBytes = 64 * 1024;

export async function runOneOff(driver: OciDriver, spec: OneOff): Promise<OneOffResult> {
  let readers: { stdout: Reader; stderr: Reader } | null = null;
  const start = {
    pool: spec.pool,
    args: spec.argv,
    env: { ...baseEnv, ...spec.env },
    link: null,
    listen: false,
    input: false,
    cpu: oneCpu,
    mounts: spec.mounts,
  };
  const sandbox = await driver.begin(start, (output) => {
    readers = { stdout: readFifo(output.stdout, spec.outputBytes), stderr: readFifo(output.stderr, stderrBytes) };
    // Writers of our own until the program has been started: a FIFO that nobody writes to is at its end.
    const held = [output.stdout, output.stderr].map((path) => openSync(path, constants.O_WRONLY));
    return () => held.forEach((fd) => closeSync(fd));
  });
  const over = sandbox.over.then((end) => {
    const words = engineError(end.how.files?.[sandbox.engineLog]);
    if (words !== null && end.exit.reason === "exited")
      throw new EbbError("internal", `The sandbox cannot be started: ${words}`);
    return end;
  });
  return oneOffResult(spec, over, readers!, () => void sandbox.stop(0));
}
