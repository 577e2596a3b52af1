// Where a pull may lead: to the public, and to the operator's registries; never by a name or a redirect into the machine's own networks.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { asked, failure, imageOf, layerOf, Room, startOwnRegistry } from "./images.testing.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

describe("a pull", { skip }, () => {
  let room: Room;
  const rules = (): string => spawnSync("/usr/sbin/nft", ["list", "ruleset"]).stdout.toString();
  /** By a rule of this room: other daemons have theirs. */
  const isOpen = (host: string): boolean => rules().includes(`127.0.0.1 . ${host.split(":")[1]}`);
  before(async () => {
    room = await new Room().start();
    await room.images.stop();
  });
  after(() => room.stop());

  test("from an address of the machine's own networks is refused with the operator's way to allow it", async () => {
    room.images = room.create({ registries: ["registry.example.com"] });
    await room.images.start();
    for (const [reference, address] of [
      ["127.0.0.1:5000/x", "127.0.0.1"],
      ["localhost/x", "127.0.0.1|::1"],
      ["169.254.169.254/latest/x", "169.254.169.254"],
      ["10.0.0.1:443/x", "10.0.0.1"],
      ["[::ffff:7f00:1]:5000/x", "::ffff:127.0.0.1|::ffff:7f00:1"],
      ["0.0.0.0:80/x", "0.0.0.0"],
    ])
      await assert.rejects(
        room.images.fetch({ kind: "registry", reference: reference! }, asked()),
        failure("image_refused", new RegExp(`own \\((${address})\\); the operator lets images come .* --registry `)),
      );
    await room.images.stop();
  });

  test("is not led by a redirect to what is not permitted, though it is on the same host", async () => {
    const image = imageOf([await layerOf([{ name: "redirected" }])]);
    const digest = image.layers[0]!.digest;
    const inner = await startOwnRegistry(image);
    const outer = await startOwnRegistry(image, {
      [digest]: (_, response) =>
        response.writeHead(307, { location: `http://${inner.host}/v2/x/blobs/${digest}` }).end(),
    });
    room.images = room.create({
      registries: [outer.host],
      resolvers: () => ["192.0.2.53", "2001:db8::53%eth0", "no address"],
    });
    await room.images.start();
    await assert.rejects(
      room.images.fetch({ kind: "registry", reference: `${outer.host}/x` }, asked()),
      failure("registry_failed", /cannot be reached/),
    );
    assert.deepEqual(inner.asked, []);
    // The name servers of the moment, and no other port of theirs.
    assert.match(rules(), /set resolvers \{[^}]*elements = \{ 192\.0\.2\.53 \}[^]*set resolvers6 \{[^}]*2001:db8::53/);
    await room.images.stop();

    // The same, permitted.
    room.images = room.create({ registries: [outer.host, inner.host] });
    await room.images.start();
    await room.images.fetch({ kind: "registry", reference: `${outer.host}/x` }, asked());
    assert.equal(inner.asked.length, 1);
    await room.images.stop();
    // A host of which all ports are permitted, and one of them as well.
    room.images = room.create({ registries: [outer.host, "127.0.0.1", inner.host] });
    await room.images.start();
    await room.images.fetch({ kind: "registry", reference: `${inner.host}/x` }, asked());
    await Promise.all([inner.stop(), outer.stop()]);
  });

  test("keeps its rule when another ebb ends, which had one before", async () => {
    const image = imageOf([await layerOf([{ name: "beside" }])]);
    const own = await startOwnRegistry(image);
    const ending = await new Room().start();
    await ending.images.stop();
    room.images = room.create({ registries: [own.host] });
    await room.images.start();
    await ending.stop();
    await room.images.fetch({ kind: "registry", reference: `${own.host}/x` }, asked());
    await own.stop();
    await room.images.stop();
  });

  test("finds its rule again when the spawner has died, and leaves none", async () => {
    const image = imageOf([await layerOf([{ name: "afterwards" }])]);
    const own = await startOwnRegistry(image);
    const source = { kind: "registry", reference: `${own.host}/x` } as const;
    await room.images.stop();
    room.images = room.create({ registries: [own.host] });
    await room.images.start();
    await room.images.fetch(source, asked());
    assert.ok(isOpen(own.host));
    const replaced = new Promise<void>((resolve) => room.spawner.onReplaced(resolve));
    room.killSpawner();
    await replaced;
    await room.images.fetch(source, asked());
    assert.ok(isOpen(own.host));
    await room.images.stop();
    assert.ok(!isOpen(own.host));
    await own.stop();
  });
});
