// What comes short: room on the disk, a registry's answers, turns. Each ends in a stated error, and nothing stays.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { asked, failure, imageOf, layerOf, Room, startOwnRegistry } from "./images.testing.ts";
import { Reader } from "./reader.ts";
import { hasRoom } from "./room-guard.ts";
import { Turns } from "./turns.ts";
import { unpackLayers } from "./unpack.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;
const MiB = 1024 * 1024;

describe("what comes short", { skip }, () => {
  let room: Room;
  before(async () => {
    room = await new Room().start();
  });
  after(() => room.stop());

  /** A disk of its own. */
  const disk = async (name: string, bytes: number): Promise<string> => {
    const target = join(room.folder, name);
    mkdirSync(target);
    await room.spawner.tmpfs({ target, bytes, mode: "0711", owner: "spawner" });
    return target;
  };
  const incompressible = async (bytes: number) => {
    const content = spawnSync("head", ["-c", String(bytes), "/dev/urandom"], { maxBuffer: 2 * bytes }).stdout;
    return imageOf([await layerOf([{ name: "large", content }])]);
  };

  test("a disk that is nearly full takes no image: it is said before anything comes", async () => {
    const small = new Room(await disk("full", 64 * MiB));
    await small.start();
    const image = await incompressible(1_000);
    const registry = await startOwnRegistry(image);
    const fetched = small.images.fetch({ kind: "registry", reference: `${registry.host}/x` }, asked());
    await assert.rejects(fetched, failure("storage_full", /no room on the disk for the image; nothing of it was kept/));
    assert.ok(!registry.asked.some((path) => path.endsWith(image.layers[0]!.digest)));
    assert.deepEqual(readdirSync(join(small.data, "images/staging")), []);
    await registry.stop();
    await small.stopKeeping();
  });

  test("a disk that fills while it comes, or while it is unpacked, is told as one", async () => {
    const image = await incompressible(4 * MiB);
    const registry = await startOwnRegistry(image);
    const folder = await disk("filling", 1 * MiB);
    // Nobody has a rule for it.
    const uid = 79_999;
    const [layout, scratch] = [join(folder, "layout"), join(folder, "scratch")];
    for (const own of [layout, scratch]) {
      mkdirSync(own);
      chownSync(own, uid, uid);
    }
    const reader = new Reader({
      spawner: room.spawner,
      clock: { ...systemClock, after: () => () => {} },
      uid,
      room: hasRoom,
    });
    const subject = { name: "x", registry: registry.host };
    const { signal } = new AbortController();
    const run = { staging: { folder, layout, scratch, authFile: null }, subject, signal };
    // Nobody looks at the disk here: the kernel says it.
    const bounds = { bytesMax: 1e9, bytes: () => {} };
    const copied = reader.copy(`docker://${registry.host}/x`, run, bounds);
    await assert.rejects(copied, failure("storage_full", /no room on the disk/));
    await registry.stop();

    const [layer] = image.layers;
    const blob = join(room.folder, "blob");
    writeFileSync(blob, layer!.bytes);
    const unpacked = unpackLayers({
      spawner: room.spawner,
      node: process.execPath,
      subject,
      signal,
      folder: join(folder, "unpacked"),
      blobs: [{ digest: layer!.digest, diffId: layer!.diffId, blob }],
      left: { entries: 10, bytes: 1e9 },
    });
    await assert.rejects(unpacked, failure("storage_full", /no room on the disk/));
  });

  test("a registry that falls silent in the middle is given up", async () => {
    const image = await incompressible(100_000);
    const registry = await startOwnRegistry(image, {
      [image.layers[0]!.digest]: (_, response) =>
        response.writeHead(200).write(image.layers[0]!.bytes.subarray(0, 1_000)),
    });
    await room.images.stop();
    // A minute is an instant.
    room.images = room.create({ clock: { ...systemClock, monotonicUs: () => 200 * systemClock.monotonicUs() } });
    await room.images.start();
    await assert.rejects(
      room.images.fetch({ kind: "registry", reference: `${registry.host}/x` }, asked()),
      failure("registry_failed", /the registry 127.* has sent nothing for 60 s/),
    );
    assert.deepEqual(readdirSync(join(room.data, "images/staging")), []);
    await registry.stop();
  });

  test("a registry that answers with an error, or with what is no manifest, is told", async () => {
    const image = await incompressible(10);
    const answers: ReadonlyArray<
      readonly [number, string, RegExp, "registry_failed" | "image_refused" | "image_not_found"]
    > = [
      [500, "oops", /does not give|cannot be reached/, "registry_failed"],
      [429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', /rate limit/, "registry_failed"],
      [401, '{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}', /wants another login/, "image_not_found"],
      [200, "<html>", /is not JSON/, "image_refused"],
      [200, '{"schemaVersion":1}', /schema 1/, "image_refused"],
      [200, '{"schemaVersion":2,"manifests":[]}', /names no image/, "image_refused"],
    ];
    for (const [status, body, words, code] of answers) {
      const registry = await startOwnRegistry(image, {
        "/manifests/": (_, response) =>
          response
            .writeHead(status, { "content-type": "application/vnd.oci.image.manifest.v1+json", "retry-after": "0" })
            .end(body),
      });
      const fetched = room.images.fetch({ kind: "registry", reference: `${registry.host}/x` }, asked());
      await assert.rejects(fetched, failure(code, words), body);
      await registry.stop();
    }
  });

  test("so many have a turn at once, in their order; whoever waits may leave, and more than may wait are told", async () => {
    const turns = new Turns(1, 2);
    const { signal } = new AbortController();
    const done: string[] = [];
    const first = Promise.withResolvers<void>();
    const running = turns.take(signal, () => first.promise.then(() => void done.push("first")));
    const leaving = new AbortController();
    const left = assert.rejects(
      turns.take(leaving.signal, async () => void done.push("left")),
      /gone/,
    );
    const second = turns.take(signal, async () => void done.push("second"));
    await assert.rejects(
      turns.take(signal, async () => {}),
      failure("rate_limited", /2 images wait/),
    );
    leaving.abort(new Error("gone"));
    await left;
    first.resolve();
    await Promise.all([running, second]);
    await turns.take(signal, async () => void done.push("third"));
    assert.deepEqual(done, ["first", "second", "third"]);
  });
});
