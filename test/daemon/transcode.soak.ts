// The example that transcodes films, by the words of its own file: its image is made here, deployed, run, and each result looked into.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import type { RunRow } from "#client/client.ts";
import { removeDirectory, runCommand, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";

const missing = ["/usr/bin/ffmpeg", "/usr/bin/ffprobe", "/usr/bin/buildah"].find((path) => !existsSync(path));

describe("transcode", { skip: missing === undefined ? false : `no ${missing}` }, () => {
  const folder = temporaryDirectory();
  const example = join(folder, "transcode");
  let daemon: Daemon;
  before(async () => {
    cpSync(join(installation, "examples", "transcode"), example, { recursive: true });
    rmSync(join(example, "image", "root"), { recursive: true, force: true });
    execFileSync(join(example, "make-image.sh"), { stdio: "inherit" });
    daemon = await startDaemon();
    const deployed = await daemon.ebb(["deploy", example]);
    assert.equal(deployed.code, 0, deployed.stderr);
  });
  after(async () => {
    await daemon?.stop();
    if (daemon) removeDirectory(daemon.directory);
    removeDirectory(folder);
  });

  test("each task of a run leaves the film of its index, in the size that the run asks for", async () => {
    const run120 = ["jobs", "run", "transcode", "--data", daemon.directory, "--wait", "--", "120"];
    const { code, stdout, stderr } = await runCommand(run120);
    assert.equal(code, 0, `${stdout}${stderr}`);
    const [run] = await daemon.json<RunRow[]>(["jobs", "runs", "transcode"]);
    assert.deepEqual([run?.state, run?.tasks.length], ["succeeded", 3]);
    // As wide as each is high in the list's own shape: 640x480, 480x480, 960x480.
    for (const [index, width] of [160, 120, 240].entries()) {
      const content = await Array.fromAsync(await daemon.client.runs.result("default", run!.id, index));
      const film = join(folder, `${index}.mp4`);
      writeFileSync(film, Buffer.concat(content));
      const { streams, format } = probe(film);
      const picture = streams.find(({ codec_type: type }) => type === "video");
      const sound = streams.find(({ codec_type: type }) => type === "audio");
      assert.deepEqual([picture?.codec_name, picture?.width, picture?.height], ["h264", width, 120]);
      assert.equal(sound?.codec_name, "aac");
      assert.equal(picture?.nb_read_frames, "50", "every picture of it can be decoded");
      assert.ok(Math.abs(Number(format.duration) - 2) < 0.1, format.duration);
    }
  });

  test("a task beyond the list says so, and its run has failed", async () => {
    const { id } = await daemon.client.runs.start("default", "transcode", { parallelism: 4, args: ["64"] });
    let run = await daemon.client.runs.show("default", id, 60);
    while (run.ended === null) run = await daemon.client.runs.show("default", id, 60);
    const states = run.tasks.map(({ state }) => state);
    assert.deepEqual([run.state, ...states], ["failed", "succeeded", "succeeded", "succeeded", "failed"]);
    const lines = await daemon.client.logs("default", { run: id });
    assert.ok(lines.some(({ message }) => message === "the list has no film 4"));
  });
});

interface Probed {
  readonly streams: ReadonlyArray<{
    readonly codec_type: string;
    readonly codec_name: string;
    readonly width?: number;
    readonly height?: number;
    readonly nb_read_frames?: string;
  }>;
  readonly format: { readonly duration: string };
}

function probe(film: string): Probed {
  const asked = ["-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", film];
  return JSON.parse(execFileSync("ffprobe", asked, { encoding: "utf8" })) as Probed;
}
