// Images made of folders with a Dockerfile: what is built, what is refused with its line, and that nothing of it runs.

import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Image } from "./door.ts";
import { readDockerfile } from "./dockerfile.ts";
import { asked, failure, imageOf, layerOf, Room, startOwnRegistry } from "./images.testing.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

test("a Dockerfile's bases are what its FROM and COPY --from name, but its own stages and scratch", () => {
  const text = [
    "# escape=`",
    "ARG VERSION=22 NAME",
    'ARG BASE="debian:12"',
    "FROM --platform=$TARGET node:${VERSION}-slim AS Build",
    "COPY `",
    "  # within",
    "  . /src",
    "from build as other",
    "FROM $BASE",
    "COPY --from=build /a /b",
    "COPY --from=0 /a /b",
    "COPY --from=busybox:1 --chown=1:1 /a /b",
    "FROM ${UNKNOWN:-alpine}",
    "FROM scratch",
    "FROM node:22-slim",
  ].join("\n");
  assert.deepEqual(readDockerfile(text, "Dockerfile").bases, ["node:22-slim", "debian:12", "busybox:1", "alpine"]);
});

test("what ebb does not do is said with its line", () => {
  const refused = (text: string, words: RegExp): void =>
    assert.throws(() => readDockerfile(text, "web/Dockerfile"), failure("image_refused", words));
  refused("# x\nrun echo x\nFROM scratch", /^web\/Dockerfile:2: RUN stands before the first FROM/);
  refused("FROM scratch\nADD --chown=1 https://x/y /z", /Dockerfile:2: ADD of an address is not fetched/);
  refused('FROM scratch\nADD ["https://x/y", "/z"]', /Dockerfile:2: ADD of an address/);
  refused("FROM scratch\nADD git@github.com:x/y.git /z", /ADD of an address/);
  refused("FROM scratch\nONBUILD COPY . /", /does not take ONBUILD/);
  refused("FROM $X", /Dockerfile:1: \$X has no value: give its ARG a default/);
  refused("COPY a b", /before the first FROM/);
  refused("# nothing", /there is no FROM in it/);
});

describe("a folder with a Dockerfile", { skip }, () => {
  let room: Room;
  let count = 0;
  before(async () => {
    room = await new Room().start();
  });
  after(() => room.stop());

  const folder = (dockerfile: string | null, files: Readonly<Record<string, string>> = {}): string => {
    const path = join(room.folder, `context-${++count}`);
    mkdirSync(path);
    if (dockerfile !== null) writeFileSync(join(path, "Dockerfile"), dockerfile);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
    return path;
  };
  const build = (context: string, file: string | null = null): Promise<Image> =>
    room.images.fetch({ kind: "build", context, file }, asked());
  const refused = async (context: string, words: RegExp, file: string | null = null): Promise<void> => {
    await assert.rejects(build(context, file), failure("image_refused", words));
    assert.deepEqual(readdirSync(join(room.data, "images", "staging")), []);
  };
  const inIt = (image: Image, name: string): string | undefined =>
    image.layers.map((layer) => join(layer, name)).findLast((path) => existsSync(path));

  test("becomes an image on its base, whose layers it shares, with what it copies and says", async () => {
    const base = imageOf([await layerOf([{ name: "bin/sh", mode: 0o4755, content: "sh" }])], {
      config: { Env: ["PATH=/bin"], Cmd: ["/bin/sh"], User: "0" },
    });
    const registry = await startOwnRegistry(base);
    const reference = `${registry.host}/base:latest`;
    const context = folder(
      [
        `ARG BASE=${reference}`,
        "FROM ${BASE} AS first",
        "COPY made.txt /out/",
        "FROM $BASE",
        "COPY --from=first --chown=1000:1000 /out/made.txt /app/made.txt",
        "COPY kept* /app/",
        "ENV A=b",
        "WORKDIR /app",
        "EXPOSE 8081",
        "USER 1000",
        'ENTRYPOINT ["/bin/sh"]',
        'CMD ["-c", "x"]',
      ].join("\n"),
      { "made.txt": "made", "kept.txt": "kept", "kept.secret": "hidden", ".dockerignore": "*.secret\n" },
    );
    const lines: string[] = [];
    const image = await room.images.fetch(
      { kind: "build", context, file: "Dockerfile" },
      asked({ progress: (line) => lines.push(line) }),
    );
    assert.deepEqual(image.config, {
      entrypoint: ["/bin/sh"],
      command: ["-c", "x"],
      env: { PATH: "/bin", A: "b" },
      workingDirectory: "/app",
      user: "1000",
      port: 8081,
      stopSignal: null,
    });
    const pulled = room.images.get(base.manifest.digest);
    assert.equal(image.layers[0], pulled?.layers[0]);
    assert.equal(lstatSync(inIt(image, "bin/sh")!).mode & 0o7777, 0o755);
    assert.equal(lstatSync(inIt(image, "app/made.txt")!).uid, 1000);
    assert.equal(readFileSync(inIt(image, "app/kept.txt")!, "utf8"), "kept");
    assert.equal(inIt(image, "app/kept.secret"), undefined);
    // The same folder on the same base is the same image, and nothing is built.
    const count = registry.asked.filter((path) => path.includes("/blobs/")).length;
    assert.equal((await build(context, "Dockerfile")).digest, image.digest);
    // (A bare manifest's configuration is read each time.)
    assert.equal(registry.asked.filter((path) => path.includes("/blobs/")).length, count + 1);
    writeFileSync(join(context, "made.txt"), "made again");
    const again = await build(context, "Dockerfile");
    assert.notEqual(again.digest, image.digest);
    assert.equal(readFileSync(inIt(again, "app/made.txt")!, "utf8"), "made again");
    assert.match(lines.join("\n"), /asking 127[^]*pulling [^]*building context-[^]*unpacking context-/);
    assert.deepEqual(readdirSync(join(room.data, "images", "staging")), []);
    await registry.stop();
  });

  test("takes values of its ARGs as they are, and a stage of it for the image", async () => {
    const context = folder(
      [
        "ARG BASE=nowhere.invalid/x SAID=global",
        "FROM ${BASE} AS asked",
        "ARG SAID LEFT=out",
        "ENV SAID=$SAID LEFT=$LEFT",
        "COPY Dockerfile /",
        "FROM nowhere.invalid/other",
        "COPY --from=asked /Dockerfile /",
      ].join("\n"),
    );
    const said = `"$LEFT" 'a  b' \\n`;
    const asking = (args: Record<string, string>) =>
      room.images.fetch({ kind: "build", context, file: null, args, target: "asked" }, asked());
    const image = await asking({ BASE: "scratch", SAID: said });
    assert.deepEqual([image.config.env["SAID"], image.config.env["LEFT"]], [said, "out"]);
    assert.equal((await asking({ SAID: said, BASE: "scratch" })).digest, image.digest, "nothing is built");
    const other = await asking({ SAID: "", BASE: "scratch" });
    assert.equal(other.config.env["SAID"], "");
    for (const BASE of ["scratch AS x", "--platform=x", "$BASE"])
      await assert.rejects(asking({ BASE }), failure("image_refused", /BASE|AS x|platform/), BASE);
    assert.deepEqual(readdirSync(join(room.data, "images", "staging")), []);
  });

  test("reads nothing beside its folder, and says what it does not find", async () => {
    const linked = folder("FROM scratch\nCOPY link /x\n");
    symlinkSync("/etc/passwd", join(linked, "link"));
    await refused(
      linked,
      /cannot be built: building at STEP "COPY link \/x": .*(no such file|leads out of the folder)/,
    );
    const above = folder("FROM scratch\nCOPY above/etc/passwd /x\n");
    symlinkSync("/", join(above, "above"));
    await refused(above, /no such file/);
    await refused(folder("FROM scratch\nCOPY ../../../etc/passwd /x\n"), /no such file/);
    await refused(
      folder("FROM scratch\nCOPY nothing /x\n"),
      /STEP "COPY nothing \/x": looking for its sources.*no such file/,
    );
    await refused(folder(null), /has no Containerfile and no Dockerfile/);
    await refused(folder(null), /there is no web\/Dockerfile in context/, "web/Dockerfile");
    await refused(folder(null), /leads out of its folder/, "../data");
    const out = folder(null);
    symlinkSync("/etc/passwd", join(out, "Dockerfile"));
    await refused(out, /leads out of its folder/);
    const ignoring = folder("FROM scratch\n");
    symlinkSync("/etc/passwd", join(ignoring, ".dockerignore"));
    await refused(ignoring, /\.dockerignore is no file/);
  });

  test("runs nothing, also where its base says so for whoever stands on it", async () => {
    const mark = join(room.folder, "ran");
    const config = { OnBuild: [`RUN touch ${mark}`], Cmd: ["x"] };
    const base = imageOf([await layerOf([{ name: "bin/sh", content: "sh" }])], { config });
    const registry = await startOwnRegistry(base);
    await refused(folder(`FROM ${registry.host}/base\n`), /base cannot be built on: it says ONBUILD/);
    assert.ok(!existsSync(mark));
    await registry.stop();
  });

  test("stands on nothing that is not an image, or not there", async () => {
    await refused(folder("FROM UPPER\n"), /is no name of an image/);
    await refused(folder("FROM 169.254.169.254/x\n"), /the operator lets images come/);
    await assert.rejects(build(folder("FROM 127.0.0.1:1/x\n")), failure("registry_failed", /cannot be reached/));
  });
});
