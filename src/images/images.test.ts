// The room from outside: images of every source arrive as layers, once, and nothing stays of what fails.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { imageLimits } from "#model/limits.ts";
import type { ImageSource } from "./door.ts";
import {
  asked,
  failure,
  imageOf,
  indexOf,
  json,
  layerOf,
  Room,
  startOwnRegistry,
  startRegistry,
  tarOf,
  writeLayout,
  type Registry,
  type TestImage,
} from "./images.testing.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

function registered(reference: string): ImageSource {
  return { kind: "registry", reference };
}

describe("images", { skip }, () => {
  let room: Room;
  let registry: Registry;
  const config = {
    Entrypoint: ["/bin/app"],
    Cmd: ["serve"],
    Env: ["PATH=/bin", "EMPTY=", "A=b=c"],
    WorkingDir: "/srv/",
    User: "app:app",
    ExposedPorts: { "9000/udp": {}, "8080/tcp": {}, "443/tcp": {} },
    StopSignal: "SIGQUIT",
  };
  before(async () => {
    room = await new Room().start();
    registry = await startRegistry(join(room.folder, "registry"));
  });
  after(async () => {
    await registry.stop();
    await room.stop();
  });

  /** Every name that fetches leave: none, but what is kept. */
  /** Of fetches: nothing. A record is written anew by way of the same folder, when the disk has all of an earlier one. */
  const leavesNothing = async (): Promise<void> => {
    const left = (): string[] => readdirSync(join(room.data, "images", "staging"));
    for (let turn = 0; turn < 10_000 && left().length > 0; turn++) await nextTurn();
    assert.deepEqual(left(), []);
  };
  const layersKept = (): number => readdirSync(join(room.data, "images", "layers")).length;
  const push = (layout: string, name: string): void => {
    const to = `docker://${registry.host}/${name}`;
    const pushed = spawnSync("skopeo", [
      "copy",
      "-q",
      "--insecure-policy",
      "--dest-tls-verify=false",
      `oci:${layout}`,
      to,
    ]);
    assert.equal(pushed.status, 0, pushed.stderr.toString());
  };

  test("an image of a registry is there with its configuration, its files with their owners, and its digest", async () => {
    const below = await layerOf([
      { name: "bin/app", mode: 0o755, content: "#!/bin/sh\n", mtime: new Date(1e12) },
      { name: "etc", type: "directory", uid: 0, mode: 0o755 },
      { name: "etc/owned", uid: 1000, gid: 1001, mode: 0o640, content: "x" },
      { name: "gone", content: "below" },
      { name: "dir/old", content: "below" },
      { name: "tmp", type: "directory", mode: 0o1777 },
      { name: "link", type: "symlink", linkname: "/etc/owned" },
      { name: "hard", type: "link", linkname: "etc/owned" },
    ]);
    const above = await layerOf([
      { name: ".wh.gone" },
      { name: "dir/.wh..wh..opq" },
      { name: "dir/new", content: "above" },
    ]);
    const image = imageOf([below, above], { config });
    push(writeLayout(join(room.folder, "first"), image), "team/app:1");
    const lines: string[] = [];
    const reference = `${registry.host}/team/app:1`;
    const fetched = await room.images.fetch(registered(reference), asked({ progress: (line) => lines.push(line) }));
    assert.equal(fetched.digest, image.manifest.digest);
    assert.equal(fetched.reference, reference);
    assert.deepEqual(fetched.config, {
      entrypoint: ["/bin/app"],
      command: ["serve"],
      env: { PATH: "/bin", EMPTY: "", A: "b=c" },
      workingDirectory: "/srv",
      user: "app:app",
      port: 443,
      stopSignal: "SIGQUIT",
    });
    const [lower, upper] = fetched.layers;
    assert.equal(fetched.layers.length, 2);
    assert.equal(readFileSync(join(lower!, "bin/app"), "utf8"), "#!/bin/sh\n");
    assert.equal(lstatSync(join(lower!, "bin/app")).mtimeMs, 1e12);
    const owned = lstatSync(join(lower!, "etc/owned"));
    assert.deepEqual([owned.uid, owned.gid, owned.mode & 0o7777, owned.nlink], [1000, 1001, 0o640, 2]);
    assert.equal(lstatSync(join(lower!, "tmp")).mode & 0o7777, 0o1777);
    assert.ok(lstatSync(join(upper!, "gone")).isCharacterDevice());
    assert.match(lines.join("\n"), /asking 127[^]*pulling .*2 layers[^]*unpacking .*2 layers/);
    assert.deepEqual(room.images.get(image.manifest.digest), fetched);
    await leavesNothing();

    // As a sandbox has it: the two laid over each other.
    const target = join(room.folder, "merged");
    await room.spawner.make({
      owner: "merged",
      things: [
        { kind: "folder", path: target, mode: 0o700 },
        { kind: "overlay", base: "/", lower: [upper!, lower!], target, source: lower! },
      ],
      undo: [{ kind: "unmount", path: target }],
    });
    assert.deepEqual(readdirSync(target).toSorted(), ["bin", "dir", "etc", "hard", "link", "tmp"]);
    assert.deepEqual(readdirSync(join(target, "dir")), ["new"]);
    await room.spawner.unmake("merged");
  });

  test("layers come once: what a project has is not fetched again, and another project fetches it, to have it without a copy", async () => {
    const shared = await layerOf([{ name: "shared", content: "s".repeat(1_000) }]);
    const one = imageOf([shared, await layerOf([{ name: "one" }])]);
    const two = imageOf([shared, await layerOf([{ name: "two" }])]);
    const first = await startOwnRegistry(one);
    const second = await startOwnRegistry(two);
    const had = layersKept();
    const a = await room.images.fetch(registered(`${first.host}/x`), asked());
    const b = await room.images.fetch(registered(`${second.host}/x`), asked());
    assert.equal(a.layers[0], b.layers[0]);
    assert.equal(layersKept() - had, 3);
    const times = (): number => second.asked.filter((path) => path.endsWith(shared.digest)).length;
    assert.equal(times(), 0);
    const others = await room.images.fetch(registered(`${second.host}/x`), asked({ project: "other" }));
    assert.deepEqual(others.layers, b.layers);
    assert.equal(times(), 1);
    assert.equal(layersKept() - had, 3);
    await Promise.all([first.stop(), second.stop()]);
  });

  test("a layer that an image has twice is laid there once, where it stands last: overlayfs takes no folder twice", async () => {
    const [twice, between] = [
      await layerOf([{ name: "a", content: "a" }]),
      await layerOf([{ name: "a", content: "b" }]),
    ];
    const layout = writeLayout(join(room.folder, "twice"), imageOf([twice, between, twice]));
    const { layers } = await room.images.fetch({ kind: "layout", path: layout }, asked());
    assert.deepEqual(
      layers.map((layer) => readFileSync(join(layer, "a"), "utf8")),
      ["b", "a"],
    );
  });

  test("the same image asked for by several at once is pulled once; whoever leaves does not end it for the others", async () => {
    const image = imageOf([await layerOf([{ name: "joined" }])]);
    const own = await startOwnRegistry(image);
    const leaving = new AbortController();
    const reference = registered(`${own.host}/joined`);
    const left = assert.rejects(
      room.images.fetch(reference, asked({ signal: leaving.signal })),
      failure("conflict", /given up/),
    );
    const both = Promise.all([room.images.fetch(reference, asked()), room.images.fetch(reference, asked())]);
    leaving.abort();
    await left;
    const [a, b] = await both;
    assert.deepEqual(a, b);
    assert.equal(own.asked.filter((path) => path.endsWith(image.layers[0]!.digest)).length, 1);
    await own.stop();
  });

  test("of an index the image for this machine is taken; without one the sentence names both", async () => {
    const mine = imageOf([await layerOf([{ name: "mine" }])]);
    const theirs = imageOf([await layerOf([{ name: "theirs" }])], { architecture: "s390x" });
    const here = process.arch === "x64" ? "amd64" : process.arch;
    const named = indexOf([
      { image: theirs, architecture: "s390x" },
      { image: mine, architecture: here },
    ]);
    const both = await startOwnRegistry({ named, images: [mine, theirs] });
    assert.equal((await room.images.fetch(registered(`${both.host}/x`), asked())).digest, mine.manifest.digest);
    const wrong = new RegExp(`is for linux/s390x, and this machine is linux/${here}`);
    const only = await startOwnRegistry({
      named: indexOf([{ image: theirs, architecture: "s390x" }]),
      images: [theirs],
    });
    await assert.rejects(room.images.fetch(registered(`${only.host}/x`), asked()), failure("image_refused", wrong));
    const bare = await startOwnRegistry(theirs);
    await assert.rejects(room.images.fetch(registered(`${bare.host}/x`), asked()), failure("image_refused", wrong));
    // Before its layers.
    assert.ok(!bare.asked.some((path) => path.endsWith(theirs.layers[0]!.digest)));
    await Promise.all([both.stop(), only.stop(), bare.stop()]);
  });

  test("archives of docker save, layouts in tars, and layout folders are loaded, plain, gzipped and zstandard", async () => {
    const layers = [
      await layerOf([{ name: "a", content: "a" }]),
      await layerOf([{ name: "b", content: "b" }], "none"),
      await layerOf([{ name: "c", content: "c" }], "zstd"),
    ];
    const image = imageOf(layers, { config });
    const layout = writeLayout(join(room.folder, "layout"), image);
    const loaded = await room.images.fetch({ kind: "layout", path: layout }, asked());
    assert.equal(loaded.digest, image.manifest.digest);
    const names = loaded.layers.map((folder) => readdirSync(folder));
    assert.deepEqual(names, [["a"], ["b"], ["c"]]);

    const packed = join(room.folder, "oci.tar.gz");
    const files = [
      "oci-layout",
      "index.json",
      ...readdirSync(join(layout, "blobs/sha256")).map((n) => `blobs/sha256/${n}`),
    ];
    writeFileSync(
      packed,
      gzipSync(await tarOf(files.map((name) => ({ name, content: readFileSync(join(layout, name)) })))),
    );
    assert.deepEqual(await room.images.fetch({ kind: "archive", path: packed }, asked()), {
      ...loaded,
      reference: "oci.tar.gz",
    });

    const saved = join(room.folder, "saved.tar");
    const tars = await Promise.all(["a", "b"].map((name) => tarOf([{ name, content: name }])));
    const configuration = { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch, config };
    const rootfs = { type: "layers", diff_ids: [layers[0]!.diffId, layers[1]!.diffId] };
    writeFileSync(
      saved,
      await tarOf([
        { name: "config.json", content: json({ ...configuration, rootfs }) },
        { name: "1/layer.tar", content: tars[0]! },
        { name: "2/layer.tar", content: tars[1]! },
        {
          name: "manifest.json",
          content: json([{ Config: "config.json", RepoTags: ["app:1"], Layers: ["1/layer.tar", "2/layer.tar"] }]),
        },
      ]),
    );
    const docker = await room.images.fetch({ kind: "archive", path: saved }, asked());
    assert.deepEqual(docker.layers, loaded.layers.slice(0, 2));
    assert.deepEqual(docker.config, loaded.config);
    await leavesNothing();
  });

  test("what is no image, leads out of its folder, or is of an older form, is refused", async () => {
    const refused = async (source: ImageSource, words: RegExp): Promise<void> =>
      assert.rejects(room.images.fetch(source, asked()), failure("image_refused", words));
    const text = join(room.folder, "text.tar");
    writeFileSync(text, "no archive");
    await refused({ kind: "archive", path: text }, /text\.tar cannot be read/);
    await refused({ kind: "archive", path: join(room.folder, "nothing") }, /has no file/);
    await refused({ kind: "archive", path: room.folder }, /has no file/);
    const link = join(room.folder, "link.tar");
    symlinkSync("/etc/shadow", link);
    await refused({ kind: "archive", path: link }, /has no file/);

    const image = imageOf([await layerOf([{ name: "x" }])]);
    const layout = writeLayout(join(room.folder, "linked"), image);
    const blob = join(layout, "blobs/sha256", image.config.digest.slice(7));
    spawnSync("ln", ["-sf", "/etc/shadow", blob]);
    await refused({ kind: "layout", path: layout }, /has no file/);
    for (const name of ["", "UPPER", "a:b:c", "x@sha256:1", "-x", "http://x/y", "a/../b", "a".repeat(600)])
      await refused(registered(name), /is no name of an image/);

    const foreign = imageOf([await layerOf([{ name: "x" }])], {
      manifest: {
        layers: [
          {
            mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
            digest: image.layers[0]!.digest,
            size: 9,
            urls: ["http://169.254.169.254/"],
          },
        ],
      },
    });
    await refused(
      { kind: "layout", path: writeLayout(join(room.folder, "foreign"), foreign) },
      /of a kind that is not taken/,
    );
    const many = imageOf(Array.from({ length: imageLimits.layers + 1 }, () => image.layers[0]!));
    await refused({ kind: "layout", path: writeLayout(join(room.folder, "many"), many) }, /121 layers; at most 120/);
    const vast = imageOf([], {
      manifest: { layers: [{ mediaType: image.layers[0]!.mediaType, digest: image.layers[0]!.digest, size: 1e13 }] },
    });
    await refused({ kind: "layout", path: writeLayout(join(room.folder, "vast"), vast) }, /10000\.0 GB; at most/);
    await leavesNothing();
  });

  test("a private image needs its login, which nobody sees", async () => {
    // "ebb" with the password "sesame", as htpasswd -B writes it.
    const known = "ebb:$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O\n";
    const closed = await startRegistry(join(room.folder, "private"), known);
    const layout = writeLayout(join(room.folder, "secret"), imageOf([await layerOf([{ name: "secret" }])]));
    const to = `docker://${closed.host}/secret`;
    const options = ["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds=ebb:sesame"];
    const pushed = spawnSync("skopeo", [...options, `oci:${layout}`, to]);
    assert.equal(pushed.status, 0, pushed.stderr.toString());
    const fetch = async (password: string | null): Promise<string> => {
      const login = password === null ? null : { registry: closed.host, username: "ebb", password };
      return (await room.images.fetch(registered(`${closed.host}/secret`), asked({ login }))).digest;
    };
    await assert.rejects(fetch(null), failure("image_not_found", /wants another login/));
    await assert.rejects(fetch("guessed"), failure("image_not_found", /^(?!.*guessed)/));
    assert.match(await fetch("sesame"), /^sha256:/);
    await leavesNothing();
    await closed.stop();
  });

  test("an image that is not there, and a registry that is not, are told apart", async () => {
    await assert.rejects(
      room.images.fetch(registered(`${registry.host}/none:1`), asked()),
      failure("image_not_found", /none:1 is not there, says 127/),
    );
    await assert.rejects(
      room.images.fetch(registered("127.0.0.1:1/none"), asked()),
      failure("registry_failed", /127\.0\.0\.1:1 cannot be reached/),
    );
  });

  test("a configuration is read up to its bound, and one that is larger is the image's own fault", async (t) => {
    const layer = await layerOf([{ name: "worded" }]);
    const fetchFrom = async (image: TestImage) => {
      const own = await startOwnRegistry(image);
      t.after(() => own.stop());
      return room.images.fetch(registered(`${own.host}/x`), asked({ project: "worded" }));
    };
    const worded = (bytes: number) => imageOf([layer], { config: { ...config, Labels: { words: "w".repeat(bytes) } } });
    const fetched = await fetchFrom(worded(2 * 1024 * 1024));
    assert.deepEqual(fetched.config.command, ["serve"]);
    await assert.rejects(
      fetchFrom(worded(imageLimits.configBytes)),
      failure("image_refused", /configuration is larger than 4 MiB/),
    );
    const annotations = { words: "w".repeat(imageLimits.manifestBytes) };
    await assert.rejects(
      fetchFrom(imageOf([layer], { manifest: { annotations } })),
      failure("image_refused", /a manifest of 127\S+\/x is .*larger than 1048576 bytes/),
    );
    await leavesNothing();
  });

  test("a registry that lies is told, and nothing of what it sent stays", async () => {
    const image = imageOf([await layerOf([{ name: "true", content: "x".repeat(100_000) }])]);
    const blob = image.layers[0]!;
    const manifest = "/manifests/";
    const lies: Record<string, Parameters<typeof startOwnRegistry>[1]> = {
      "another content": { [blob.digest]: (_, response) => response.end(Buffer.alloc(blob.bytes.length)) },
      "half of it": { [blob.digest]: (_, response) => response.end(blob.bytes.subarray(0, 50)) },
      "a false length": {
        [blob.digest]: (_, response) => {
          response.writeHead(200, { "content-length": blob.bytes.length }).write(blob.bytes.subarray(0, 50));
          response.socket!.end();
        },
      },
      "more than it said": {
        [blob.digest]: (_, response) => response.end(Buffer.concat([blob.bytes, Buffer.alloc(1e6)])),
      },
    };
    const had = layersKept();
    for (const [what, answers] of Object.entries(lies)) {
      const lying = await startOwnRegistry(image, answers);
      await assert.rejects(
        room.images.fetch(registered(`${lying.host}/x`), asked({ project: what })),
        failure("registry_failed", /is not what its digests say|cannot be reached/),
        what,
      );
      await lying.stop();
    }
    const other = await startOwnRegistry(image, {
      [manifest]: (_, response) =>
        response.end(imageOf([blob], { config: {} }).manifest.bytes.toString().replace("2", "2 ")),
    });
    await assert.rejects(
      room.images.fetch(registered(`${other.host}/x@${image.manifest.digest}`), asked()),
      failure("registry_failed", /digests say/),
    );
    await other.stop();
    await leavesNothing();
    assert.equal(layersKept(), had);
  });

  test("an image whose configuration names another content than its layer has is refused", async () => {
    const layer = await layerOf([{ name: "x" }]);
    const lying = imageOf([{ ...layer, diffId: `sha256:${"0".repeat(64)}` }]);
    await assert.rejects(
      room.images.fetch({ kind: "layout", path: writeLayout(join(room.folder, "lying"), lying) }, asked()),
      failure("image_refused", /digests say/),
    );
  });
});
