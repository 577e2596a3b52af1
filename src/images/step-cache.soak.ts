// Steps of earlier builds that are taken again, in whole builds: which, by whom, and what is left where the disk is full or ebb is killed.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { systemClock } from "#model/clock.ts";
import { imageLimits } from "#model/limits.ts";
import type { BuildSource, Image } from "./door.ts";
import { asked, failure, Room } from "./images.testing.ts";
import type { ImagesOptions } from "./images.ts";
import { leavingNumbers } from "./step-cache.testing.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;
const MiB = 1024 * 1024;

describe("steps of earlier builds", { skip }, () => {
  let room: Room;
  let context: string;
  let jumpedMs = 0;
  const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + jumpedMs };
  /** What was run, in its order. */
  const ran: string[] = [];
  before(async () => {
    room = await new Room().start();
    context = join(room.folder, "context");
    mkdirSync(context);
    write({ "package.json": "{}", "main.js": "1" });
    await startAgain();
  });
  after(() => room.stop());

  const startAgain = async (): Promise<void> => {
    await room.images.stop();
    const options: Partial<ImagesOptions> = { runStep: leavingNumbers(room, ran), clock };
    room.images = room.create(options);
    await room.images.start();
  };
  const write = (files: Readonly<Record<string, string>>): void => {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(context, name), text);
  };
  const installing = ["FROM scratch", "ENV A=b", "COPY package.json /app/", "RUN install"];
  interface Built {
    readonly image: Image;
    readonly ran: readonly string[];
    readonly told: string;
  }
  const build = async (
    lines: readonly string[],
    over: Partial<BuildSource> = {},
    project = "default",
  ): Promise<Built> => {
    write({ Dockerfile: lines.join("\n") });
    const told: string[] = [];
    ran.length = 0;
    const progress = (line: string, printed?: boolean): void => void (printed === true && told.push(line));
    const image = await room.images.fetch(
      { kind: "build", context, file: null, ...over },
      asked({ project, progress }),
    );
    return { image, ran: [...ran], told: told.join("\n") };
  };
  const pathIn = ({ layers }: Image, name: string): string =>
    layers.map((layer) => join(layer, name)).findLast((path) => existsSync(path))!;
  const textIn = (image: Image, name: string): string => readFileSync(pathIn(image, name), "utf8");
  const steps = (of = room): string[] => readdirSync(join(of.data, "images/steps"));

  test("what a command has made is taken again where it would see the same, and run again where it would not", async () => {
    const whole = [...installing, "COPY main.js /app/", "RUN compile"];
    const first = await build(whole);
    assert.deepEqual(first.ran, ["install", "compile"]);
    const { mtimeMs } = statSync(pathIn(first.image, "app/package.json"));
    // The same file at another time is the same; what is behind the first command is another.
    utimesSync(join(context, "package.json"), 1e9, 1e9);
    write({ "main.js": "2" });
    await startAgain();
    const second = await build(whole);
    assert.deepEqual(second.ran, ["compile"]);
    assert.match(second.told, /^line 4: cached: RUN install$[^]*^line 6: RUN compile$/m);
    assert.equal(textIn(second.image, "install"), textIn(first.image, "install"));
    assert.equal(textIn(second.image, "app/main.js"), "2");
    assert.notEqual(textIn(second.image, "compile"), textIn(first.image, "compile"));
    assert.equal(statSync(pathIn(second.image, "app/package.json")).mtimeMs, mtimeMs, "as old as what was made of it");
    write({ "package.json": '{"name":"x"}' });
    assert.deepEqual((await build(whole)).ran, ["install", "compile"]);
    assert.deepEqual(readdirSync(join(room.data, "images/staging")), []);
  });

  test("what stands before a command that fails is not run again; another project, and who wants none of it, runs all", async () => {
    await assert.rejects(build([...installing, "RUN false"]), failure("image_refused", /Dockerfile:5: .*RUN false/));
    const mended = [...installing, "RUN mended"];
    assert.deepEqual((await build(mended)).ran, ["mended"]);
    assert.deepEqual((await build(mended)).ran, [], "the whole image is here");
    const another = await build(mended, {}, "another");
    assert.deepEqual(another.ran, ["install", "mended"]);
    const anew = await build(mended, { useCache: false });
    assert.deepEqual(anew.ran, ["install", "mended"]);
    const more = await build([...mended, "RUN more"]);
    assert.deepEqual(more.ran, ["more"]);
    assert.equal(textIn(more.image, "install"), textIn(anew.image, "install"), "the newest counts");
    await room.images.forget("default");
    assert.deepEqual((await build([...mended, "RUN yet more"])).ran, ["install", "mended", "yet more"]);
    assert.deepEqual((await build([...mended, "RUN more"], {}, "another")).ran, ["more"]);
  });

  test("a stage that does not end in the image is kept, whatever the collector takes; its values count", async () => {
    const staged = [
      "FROM scratch AS made",
      "ARG VERSION=1",
      "COPY package.json /",
      "RUN made",
      "FROM made AS tested",
      "RUN tested",
      "FROM scratch",
      "COPY --from=tested /made /tested /out/",
      "COPY main.js /",
    ];
    const first = await build(staged);
    assert.deepEqual(first.ran, ["made", "tested"]);
    const made = textIn(first.image, "out/made");
    jumpedMs += imageLimits.collectAfterMs + 1;
    await room.images.collect(new Set());
    assert.deepEqual(readdirSync(join(room.data, "images/layers")), []);
    write({ "main.js": "3" });
    const second = await build(staged);
    assert.deepEqual(second.ran, []);
    assert.equal(textIn(second.image, "out/made"), made);
    assert.equal(textIn(second.image, "main.js"), "3");
    assert.deepEqual((await build(staged, { args: { VERSION: "2" } })).ran, ["made", "tested"]);
    write({ "main.js": "4" });
    assert.deepEqual((await build(staged, { args: { VERSION: "1" } })).ran, [], "whoever gives it");
  });

  test("a disk that is full takes what is kept of steps before an image is refused", async () => {
    const target = join(room.folder, "disk");
    mkdirSync(target);
    await room.spawner.tmpfs({ target, bytes: imageLimits.diskKeptBytes + 256 * MiB, mode: "0711", owner: "spawner" });
    const small = new Room(target);
    // What it changes lies on the other disk.
    small.images = small.create({ runStep: leavingNumbers(room, ran, 16 * MiB) });
    await small.start();
    try {
      write({ Dockerfile: [...installing, "COPY main.js /"].join("\n") });
      const fetch = async (): Promise<void> => {
        ran.length = 0;
        await small.images.fetch({ kind: "build", context, file: null }, asked());
      };
      await fetch();
      assert.deepEqual(ran, ["install"]);
      assert.ok(steps(small).length > 0);
      const { bavail, bsize } = statfsSync(target);
      const filler = Buffer.alloc(bavail * bsize - imageLimits.diskKeptBytes + 1 * MiB);
      writeFileSync(join(target, "filler"), filler);
      write({ Dockerfile: "FROM scratch\nCOPY main.js /\n" });
      await fetch();
      assert.deepEqual(steps(small), []);
      assert.deepEqual(readdirSync(join(small.data, "images/staging")), []);
      // With nothing left that gives way it is told.
      writeFileSync(join(target, "filler"), Buffer.alloc(40 * MiB), { flag: "a" });
      write({ Dockerfile: "FROM scratch\nCOPY main.js /other\n" });
      await assert.rejects(fetch(), failure("storage_full", /no room/));
    } finally {
      await small.stopKeeping();
    }
  });

  test("ebb that is killed at any moment leaves what is whole, and nothing half", async () => {
    const folder = join(room.folder, "killed");
    const program = fileURLToPath(new URL("fixtures/building.ts", import.meta.url));
    const execArgv = ["--experimental-ffi", "--disable-warning=ExperimentalWarning"];
    write({ Dockerfile: [...installing, "COPY main.js /", "RUN compile"].join("\n") });
    for (let round = 0; round < 12; round++) {
      const daemon = fork(program, [folder, context], { execArgv });
      const ended = once(daemon, "exit");
      const [told] = await once(daemon, "message");
      assert.equal(told, "built");
      // Somewhere in the second one.
      const timer = setTimeout(() => daemon.kill("SIGKILL"), round * 250);
      await ended;
      clearTimeout(timer);
      const next = new Room(folder);
      const seen: string[] = [];
      next.images = next.create({ runStep: leavingNumbers(next, seen) });
      await next.start();
      const names = steps(next);
      const keys = (kind: string): string[] =>
        names.flatMap((name) => (name.endsWith(kind) ? [name.slice(0, -kind.length)] : [])).toSorted();
      assert.deepEqual(keys(".json"), keys(".kept"));
      assert.equal(names.length, 2 * keys(".json").length);
      assert.deepEqual(readdirSync(join(next.data, "images/staging")), []);
      write({ "main.js": `after ${round}` });
      const image = await next.images.fetch({ kind: "build", context, file: null }, asked());
      assert.deepEqual(seen, ["compile"]);
      assert.equal(textIn(image, "main.js"), `after ${round}`);
      await next.stopKeeping();
    }
  });
});
