// What one project has fetched is nothing to another one that merely knows its name.

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { imageLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import { RegistryEgress } from "./egress.ts";
import { keep, type FetchContext } from "./fetch.ts";
import { failure, imageOf, type Layer, layerOf, writeLayout } from "./images.testing.ts";
import { readLayout, takeFile } from "./layout.ts";
import { parseConfiguration, platformOf } from "./manifest.ts";
import { Reader } from "./reader.ts";
import { hasRoom } from "./room-guard.ts";
import { StepCache } from "./step-cache.ts";
import { folderName, ImageStore } from "./store.ts";
import { Turns } from "./turns.ts";

const platform = platformOf(process.arch);
const { signal } = new AbortController();
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "ebb-rights-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Takes every layer for what it says, as the unpacker does not: `asked` are those that it was given. */
function unpacker(): { readonly asked: string[]; readonly spawner: Pick<Spawner, "exec"> } {
  const asked: string[] = [];
  return {
    asked,
    spawner: {
      exec: async (_, { stdin = "" } = {}) => {
        if (stdin === "") return { code: 0, stdout: "", stderr: "" };
        const plan: { root: string; layers: Array<{ diffId: string; folder: string }> } = JSON.parse(stdin);
        for (const one of plan.layers) mkdirSync(join(plan.root, one.folder));
        asked.push(...plan.layers.map(({ diffId }) => diffId));
        return {
          code: 0,
          stdout: JSON.stringify({ done: plan.layers.map(() => ({ bytes: 1, entries: 1 })) }),
          stderr: "",
        };
      },
    },
  };
}

test("a layer of another project's is unpacked from the image's own blob, which must be it", async () => {
  const { asked, spawner } = unpacker();
  const store = new ImageStore(join(folder, "images"), spawner, systemClock);
  await store.start();
  let count = 0;
  const load = async (project: string, layer: Layer) => {
    const staging = join(folder, `staging-${++count}`);
    const layout = writeLayout(join(staging, "layout"), imageOf([layer]));
    const context: FetchContext = {
      store,
      steps: new StepCache({ folder: join(folder, "steps"), spawner, clock: systemClock }),
      reader: new Reader({ spawner, clock: systemClock, uid: 1, room: hasRoom }),
      egress: new RegistryEgress({
        spawner: { ...spawner, nft: async () => {}, owe: async () => {}, onReplaced: () => {} },
        uid: 1,
        name: "none",
        registries: [],
        resolvers: () => [],
      }),
      spawner,
      node: process.execPath,
      clock: systemClock,
      platform,
      unpacks: new Turns(1, 1),
      project,
      login: null,
      logins: folder,
      progress: () => {},
      runStep: null,
      runMemoryMb: 1,
      buildMs: 1,
      signal,
    };
    const run = {
      staging: { folder: staging, layout, scratch: staging, authFile: null },
      subject: { name: "x", registry: null },
      signal,
    };
    return keep(await readLayout(layout, platform, "x"), new Map(), run, context);
  };
  const secret = await layerOf([{ name: "secret" }]);
  const claimed = { ...(await layerOf([{ name: "anything" }])), diffId: secret.diffId };
  await load("owner", secret);
  assert.deepEqual(asked, [secret.diffId]);
  await load("other", claimed);
  assert.deepEqual(asked, [secret.diffId, secret.diffId]);
  // Its owner's is not unpacked again.
  await load("owner", { ...secret, mediaType: "application/vnd.oci.image.layer.v1.tar" });
  assert.equal(asked.length, 2);
  assert.ok(existsSync(join(folder, "images", "layers", folderName(secret.diffId))));
  await store.stop();
});

test("what is fetched again as it is collected is there, in memory and on the disk", async () => {
  const { spawner } = unpacker();
  const jumped = { now: Date.now() };
  const clock = { ...systemClock, wallMs: () => jumped.now };
  const place = join(folder, "collected");
  const store = new ImageStore(place, spawner, clock);
  await store.start();
  const layer = await layerOf([{ name: "x" }]);
  const image = imageOf([layer]);
  const { digest } = image.manifest;
  mkdirSync(join(place, "layers", folderName(layer.diffId)));
  const config = parseConfiguration(image.config.bytes.toString(), platform).config;
  const record = { digest: layer.digest, diffId: layer.diffId, bytes: 1, entries: 1 };
  await store.add({ digest, reference: "x", config, layers: [record], builtFrom: null }, "a");
  jumped.now += imageLimits.collectAfterMs + 1;
  const known = store.recordFor(digest, "a")!;
  const collected = store.collect(new Set());
  await Promise.all([collected, store.addAgain(known, "x", "a"), store.addAgain(known, "x", "b")]);
  const [there] = store.image(digest)!.layers;
  assert.ok(existsSync(there!));
  await store.stop();
  const next = new ImageStore(place, spawner, clock);
  await next.start();
  assert.ok(next.recordFor(digest, "a"));
  await next.stop();
});

test("a file that is taken keeps its mode where it is somebody else's as well", async () => {
  const [from, to] = [join(folder, "from"), join(folder, "to")];
  writeFileSync(from, "x", { mode: 0o755 });
  await takeFile(from, to, "x");
  assert.equal(statSync(from).mode & 0o777, 0o755);
  chmodSync(from, 0o700);
  await takeFile(from, `${to}2`, "x");
  assert.deepEqual([statSync(from).mode & 0o777, statSync(`${to}2`).mode & 0o777], [0o700, 0o644]);
});

test("a layout whose folders are links is refused, wherever they lead", async () => {
  const real = writeLayout(join(folder, "real"), imageOf([await layerOf([{ name: "x" }])]));
  for (const [name, at, to] of [
    ["linked", "blobs", join(real, "blobs")],
    ["deeper", "blobs/sha256", join(real, "blobs/sha256")],
  ] as const) {
    const linked = writeLayout(join(folder, name), imageOf([await layerOf([{ name: "x" }])]));
    rmSync(join(linked, at), { recursive: true });
    symlinkSync(to, join(linked, at));
    await assert.rejects(readLayout(linked, platform, "x"), failure("image_refused", /x has no folder at blobs/));
  }
});
