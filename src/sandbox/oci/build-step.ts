// One command of a build, run to its end in a sandbox of the image so far: what every container has (ids, namespaces, bounds, seccomp,
// a link with rules), no secret and nobody's credential. What it changed is taken before its files go.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { EbbError } from "#model/errors.ts";
import type { Network } from "#network/door.ts";
import type { LaunchSpec } from "#spawner/door.ts";
import type { BuildStep, BuildStepEnd } from "../door.ts";
import { oneCpu } from "./cgroups.ts";
import { engineError } from "./engine.ts";
import { imageOrder, wordsOfExit, type ImageStarts } from "./images.ts";
import type { OciDriver } from "./oci.ts";
import { writeOrder } from "./program.ts";

/** What it prints is read on the main thread: so much, and then the next after a pause; it waits meanwhile. */
const pieceBytes = 64 * 1024;
const pauseMs = 20;

export async function runBuildStep(
  driver: OciDriver,
  images: ImageStarts,
  network: Pick<Network, "take" | "admit" | "giveBack">,
  step: BuildStep,
): Promise<BuildStepEnd> {
  const { signal, image, project, egress, memoryMb, writableBytes } = step;
  const { argv: args } = await images.waiter();
  signal.throwIfAborted();
  const link = await network.take(egress);
  let read: Promise<unknown> = Promise.resolve();
  const sandbox = await driver.begin(
    {
      pool: { image: image.digest, memoryMb, tmpBytes: writableBytes, egress },
      args,
      env: {},
      link,
      listen: false,
      input: true,
      cpu: oneCpu,
      mounts: [],
      step,
    },
    ({ stdout, stderr }: LaunchSpec["output"]) => {
      read = Promise.all([follow(stdout, step.output), follow(stderr, step.output)]);
      const held = [stdout, stderr].map((path) => openSync(path, constants.O_WRONLY));
      return () => held.forEach((fd) => closeSync(fd));
    },
  );
  let late = false;
  const stop = (): void => void sandbox.stop(0);
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, step.timeoutMs);
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  try {
    const order = imageOrder({ env: step.env, command: step.command, probe: null, port: 0 }, sandbox.image!);
    const given = (async () => {
      await network.admit(link, { project, workload: "", egress });
      await writeOrder(sandbox.orderPath!, order, () => {});
    })();
    // One that has ended already tells why by its end.
    given.catch(stop);
    const { how, exit } = await sandbox.over;
    await read;
    signal.throwIfAborted();
    const words = engineError(how.files?.[sandbox.engineLog]);
    if (words !== null && exit.reason === "exited")
      throw new EbbError("internal", `The sandbox cannot be started: ${words}`);
    if (late) return { ok: false, reason: "timeout", message: `It took longer than ${step.timeoutMs / 1000} s.` };
    if (exit.reason === "memory") return { ok: false, reason: "memory", message: exit.message };
    if (exit.reason !== "exited") {
      await given;
      throw new EbbError("internal", exit.message);
    }
    if (exit.code !== 0) {
      const said = wordsOfExit(exit.code, step, sandbox.image!);
      return { ok: false, reason: "exited", message: said ?? exit.message };
    }
    const { atEnd } = how;
    if (atEnd?.code !== 0)
      throw new EbbError(
        "internal",
        `what a build changed was not kept: ${atEnd?.stderr.slice(0, 500) ?? "it was not run"}`,
      );
    return { ok: true, kept: atEnd.stdout };
  } catch (error) {
    // One that has got no order would wait for it for ever.
    await sandbox.stop(0);
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

/** Resolves at the end of the stream. */
function follow(path: string, tell: (piece: Uint8Array) => void): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  let budget = pieceBytes;
  return new Promise((resolve) => {
    socket.on("data", (piece: Buffer) => {
      tell(piece);
      budget -= piece.length;
      if (budget > 0) return;
      budget = pieceBytes;
      socket.pause();
      setTimeout(() => socket.resume(), pauseMs);
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });
}
