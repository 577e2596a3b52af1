// What is kept of images, what is thrown away, and what an end in the middle leaves: nothing.

import assert from "node:assert/strict";
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock } from "#model/clock.ts";
import { imageLimits } from "#model/limits.ts";
import { asked, failure, imageOf, layerOf, Room, startOwnRegistry, writeLayout } from "./images.testing.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

describe("what is kept of images", { skip }, () => {
  let room: Room;
  before(async () => {
    room = await new Room().start();
  });
  after(() => room.stop());

  const left = (): string[] => readdirSync(join(room.data, "images", "staging"));

  test("the collector takes what nobody needs, and neither what is named, nor its layers, nor what has just come", async () => {
    const jumped = { now: Date.now() };
    const clock = { ...systemClock, wallMs: () => jumped.now };
    await room.images.stop();
    room.images = room.create({ clock });
    await room.images.start();
    const shared = await layerOf([{ name: "base" }]);
    const one = imageOf([shared, await layerOf([{ name: "kept" }])]);
    const two = imageOf([shared, await layerOf([{ name: "unneeded" }])]);
    const load = async (name: string, image: typeof one) =>
      room.images.fetch({ kind: "layout", path: writeLayout(join(room.folder, name), image) }, asked());
    const kept = await load("kept", one);
    const unneeded = await load("unneeded", two);
    assert.equal(await room.images.collect(new Set([kept.digest])), 0);
    jumped.now += imageLimits.collectAfterMs + 1;
    assert.ok((await room.images.collect(new Set([kept.digest]))) > 0);
    assert.equal(room.images.get(unneeded.digest), null);
    assert.deepEqual(room.images.get(kept.digest), kept);
    assert.deepEqual(
      kept.layers.map((folder) => existsSync(folder)),
      [true, true],
    );
    assert.equal(existsSync(unneeded.layers[1]!), false);
    assert.deepEqual(left(), []);
    // And it is there again when it is fetched again.
    assert.deepEqual(await load("unneeded", two), unneeded);
  });

  test("what a killed fetch left is gone with the next start, and what is whole is there", async () => {
    const kept = await room.images.fetch(
      { kind: "layout", path: writeLayout(join(room.folder, "whole"), imageOf([await layerOf([{ name: "whole" }])])) },
      asked(),
    );
    await room.images.stop();
    const folder = join(room.data, "images");
    spawnSync("mkdir", [
      "-p",
      join(folder, "staging/half/unpacked"),
      join(folder, "layers/00000000000000000000000000000000"),
    ]);
    writeFileSync(join(folder, "records", "torn.json"), '{"version":1,');
    room.images = room.create();
    await room.images.start();
    assert.deepEqual(room.images.get(kept.digest), kept);
    assert.deepEqual(left(), []);
    assert.ok(!existsSync(join(folder, "layers/00000000000000000000000000000000")));
    assert.ok(!existsSync(join(folder, "records", "torn.json")));
  });

  test("a project of the same name as one that is gone fetches for itself", async () => {
    const image = imageOf([await layerOf([{ name: "forgotten" }])]);
    const own = await startOwnRegistry(image);
    const reference = { kind: "registry", reference: `${own.host}/x` } as const;
    const times = (): number => own.asked.filter((path) => path.endsWith(image.layers[0]!.digest)).length;
    for (const project of ["a", "b", "a"]) await room.images.fetch(reference, asked({ project }));
    assert.equal(times(), 2);
    await room.images.forget("a");
    assert.notEqual(room.images.get(image.manifest.digest), null);
    await room.images.fetch(reference, asked({ project: "b" }));
    assert.equal(times(), 2);
    await room.images.fetch(reference, asked({ project: "a" }));
    assert.equal(times(), 3);
    await own.stop();
  });

  test("a stop ends a pull that hangs, and leaves nothing of it", async () => {
    const image = imageOf([await layerOf([{ name: "hanging" }])]);
    const reached = Promise.withResolvers<void>();
    const slow = await startOwnRegistry(image, { [image.layers[0]!.digest]: () => reached.resolve() });
    const hanging = assert.rejects(
      room.images.fetch({ kind: "registry", reference: `${slow.host}/x` }, asked()),
      failure("stopping", /ebb is stopping/),
    );
    await reached.promise;
    await room.images.stop();
    await hanging;
    assert.deepEqual(left(), []);
    await slow.stop();
    room.images = room.create();
    await room.images.start();
  });

  test("a daemon that is killed in the middle of a pull leaves no process, and the next start no file of it", async () => {
    const image = imageOf([await layerOf([{ name: "killed" }])]);
    const reached = Promise.withResolvers<void>();
    const slow = await startOwnRegistry(image, {
      [image.layers[0]!.digest]: (_, response) => {
        response.writeHead(200).write("x");
        reached.resolve();
      },
    });
    const folder = join(room.folder, "killed");
    const program = fileURLToPath(new URL("fixtures/fetching.ts", import.meta.url));
    const execArgv = ["--experimental-ffi", "--disable-warning=ExperimentalWarning"];
    const daemon = fork(program, [folder, `${slow.host}/x`], { execArgv });
    await reached.promise;
    const ended = once(daemon, "exit");
    daemon.kill("SIGKILL");
    await ended;
    // Its spawner ends skopeo, and with it this connection.
    await slow.stop();
    const next = new Room(folder);
    assert.equal(readdirSync(join(next.data, "images/staging")).length, 1);
    await next.start();
    assert.deepEqual(readdirSync(join(next.data, "images/staging")), []);
    assert.deepEqual(readdirSync(join(next.data, "images/layers")), []);
    await next.stop();
  });
});
