// Deploys of containers: fetched, pinned, started once, switched; and everything that commands do to what is deployed.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { readApp } from "#app/read.ts";
import { recogniseFolder } from "#app/list-folder.ts";
import { settle } from "#app/settings.ts";
import { settleImageJob, settleJob } from "#app/settle-job.ts";
import { settleContainer } from "#app/container-settings.ts";
import type { Image } from "#images/door.ts";
import { EbbError } from "#model/errors.ts";
import type { ContainerRevision } from "#model/workload.ts";
import type { DeployProgress } from "./door.ts";
import { createWorld, type World } from "./world.testing.ts";

let world: World;
beforeEach(async () => {
  world = await createWorld({
    app: { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob },
  });
});
afterEach(() => world.stop());

const reference = "registry.example.com/web:1";

function imageOf(digit: string, over: Partial<Image["config"]> = {}): Image {
  const config = {
    entrypoint: ["/server"],
    command: ["--all"],
    env: {},
    workingDirectory: "/",
    user: "",
    port: 80,
    stopSignal: null,
    ...over,
  };
  return { digest: `sha256:${digit.repeat(64)}`, reference, config, layers: [], bytes: 1 };
}

const yaml = (more = "") => ({ "ebb.yaml": `containers: { web: { image: "${reference}"${more} } }` });

function revision(name = "web"): ContainerRevision {
  const found = world.mirror.workload("default", name)!.revision;
  assert.ok(found.kind === "container");
  return found;
}

function deployed(steps: readonly DeployProgress[]): Extract<DeployProgress, { step: "deployed" }> {
  const step = steps.at(-1);
  assert.ok(step?.step === "deployed");
  return step;
}

test("an image is fetched, pinned by its digest, started once and switched to", async () => {
  world.images.set(reference, imageOf("a"));
  const steps = await world.deploy(yaml(", memoryMb: 256, public: true"));
  assert.deepEqual(
    steps.map(({ step }) => step),
    ["received", "image", "checking", "checked", "deployed"],
  );
  assert.deepEqual(steps[1], { step: "image", workload: "web", message: "asking for it" });
  assert.deepEqual(deployed(steps).results, [
    {
      source: ".",
      workload: "web",
      project: "default",
      revision: 1,
      before: null,
      unchanged: false,
      kind: "container",
      runtime: null,
      entry: null,
      handler: null,
      signature: null,
      image: reference,
      imageDigest: imageOf("a").digest,
      command: ["/server", "--all"],
      public: true,
      url: "http://web.localhost:8080",
      pathUrl: "http://127.0.0.1:8080/run/default/web/",
    },
  ]);
  assert.deepEqual([revision().settings.port, revision().settings.memoryMb], [80, 256]);
  assert.equal(world.mirror.workload("default", "web")?.workload.kind, "container");
  assert.deepEqual(world.loads, ["web"]);
  assert.deepEqual(world.pulls[0]?.options.project, "default");
});

test("the same image again changes nothing and starts nothing; what its name leads to now is another revision", async () => {
  world.images.set(reference, imageOf("a"));
  await world.deploy(yaml());
  assert.equal(deployed(await world.deploy(yaml())).results[0]?.unchanged, true);
  assert.deepEqual(world.loads, ["web"]);
  world.images.set(reference, imageOf("b"));
  assert.equal(deployed(await world.deploy(yaml())).results[0]?.revision, 2);
  assert.equal(revision().imageDigest, imageOf("b").digest);
});

test("one that does not start is refused with its words and output, and the old one goes on", async () => {
  world.images.set(reference, imageOf("a"));
  await world.deploy(yaml());
  world.images.set(reference, imageOf("b"));
  const message = "Nothing listened on port 80 within 28 s.";
  world.loadFailures.set(imageOf("b").digest, { fault: "function", message, stack: null, hint: "Listen." });
  await assert.rejects(world.deploy(yaml()), (error) => {
    assert.ok(error instanceof EbbError);
    assert.equal(error.code, "deploy_refused");
    assert.match(error.message, /^web: Nothing listened on port 80 within 28 s\. Listen\./);
    return true;
  });
  assert.equal(revision().imageDigest, imageOf("a").digest);
});

test("an image that is not there is one problem among all", async () => {
  const files = {
    "ebb.yaml": `functions: { a: { source: ./a } }\ncontainers: { web: { image: nowhere }, other: { image: "${reference}" } }`,
    "a/index.js": "good",
  };
  world.images.set(reference, imageOf("c", { entrypoint: [], command: [] }));
  await assert.rejects(world.deploy(files), (error) => {
    assert.ok(error instanceof EbbError);
    const problems = error.extra["problems"] as ReadonlyArray<{ workload: string; message: string }>;
    assert.deepEqual(
      problems.map(({ workload, message }) => `${workload}: ${message}`),
      [
        "web: there is no such image",
        "other: other: the image does not say what is run in it; say it: command: [./server]",
      ],
    );
    return true;
  });
  assert.equal(world.mirror.workload("default", "a"), null);
});

test("functions and containers of one app file are switched together; pruning knows both", async () => {
  world.images.set(reference, imageOf("a"));
  const both = {
    "ebb.yaml": `functions: { a: { source: ./a } }\ncontainers: { web: { image: "${reference}" } }`,
    "a/index.js": "good",
  };
  assert.deepEqual(
    deployed(await world.deploy(both)).results.map(({ workload, kind }) => [workload, kind]),
    [
      ["a", "function"],
      ["web", "container"],
    ],
  );
  await assert.rejects(world.deploy(both, { prune: ["web"] }), /"web" is declared in ebb\.yaml/);
  const { kept } = deployed(await world.deploy(yaml()));
  assert.deepEqual(kept, ["a"]);
});

test("an archive that was sent is loaded from what was sent, and a folder is a layout", async () => {
  world.images.set("archive", imageOf("a"));
  world.images.set("layout", imageOf("b"));
  const app = "containers: { web: { image: ./web.tar }, other: { image: ./layout } }";
  const steps = await world.deploy({ "ebb.yaml": app, "web.tar": "x", "layout/index.json": "{}" });
  assert.deepEqual(
    deployed(steps).results.map(({ source, image }) => [source, image]),
    [
      ["web.tar", "./web.tar"],
      ["layout", "./layout"],
    ],
  );
  await assert.rejects(
    world.deploy({ "ebb.yaml": "containers: { web: { image: ./none.tar } }" }),
    /nothing at none\.tar/,
  );
});

test("a folder is built with what is kept of earlier builds, or without where the deploy says so", async () => {
  world.images.set("build", imageOf("a"));
  const app = { "ebb.yaml": "containers: { web: { build: ./web } }", "web/Dockerfile": "FROM scratch" };
  const useCache = async (options: { noCache?: boolean }): Promise<boolean | undefined> => {
    await world.deploy(app, options);
    const source = world.pulls.at(-1)?.source;
    return source?.kind === "build" ? source.useCache : undefined;
  };
  assert.deepEqual([await useCache({}), await useCache({ noCache: true })], [true, false]);
});

test("whoever asks for an image and goes, goes for its fetch as well", async () => {
  world.images.set(reference, imageOf("a"));
  const { signal } = new AbortController();
  await world.deploy(yaml(), { signal });
  assert.equal(world.pulls.at(-1)?.options.signal, signal);
  await world.deploy(yaml());
  assert.equal(world.pulls.at(-1)?.options.signal, undefined);
});

test("a private registry is opened with a secret of the project, for the host of the image's name alone", async () => {
  world.images.set(reference, imageOf("a"));
  const app = yaml(", pullSecret: REGISTRY");
  await assert.rejects(world.deploy(app), /web needs the secret REGISTRY/);
  await world.control.setSecret(world.admin, "default", "REGISTRY", "no colon");
  await assert.rejects(world.deploy(app), /REGISTRY opens no registry; expected username:password/);
  await world.control.setSecret(world.admin, "default", "REGISTRY", "me:pass:word");
  await world.deploy(app);
  assert.deepEqual(world.pulls.at(-1)?.options.login, {
    registry: "registry.example.com",
    username: "me",
    password: "pass:word",
  });
  assert.ok(!JSON.stringify([world.audits, world.facts, revision()]).includes("pass:word"));
});

test("a rollback goes to the image that served before, which no collection takes until nobody names it", async () => {
  world.images.set(reference, imageOf("a"));
  await world.deploy(yaml());
  world.images.set(reference, imageOf("b"));
  await world.deploy(yaml());
  await world.control.rollback(world.admin, "default", "web", null);
  assert.equal(revision().imageDigest, imageOf("a").digest);
  assert.deepEqual([...(await world.store.contentDigests())].toSorted(), [imageOf("a").digest, imageOf("b").digest]);
  await world.control.restart(world.admin, "default", "web");
  assert.equal(world.effects.at(-1), "replaced web r1");
  await world.control.removeWorkload(world.admin, "default", "web");
  assert.deepEqual([...(await world.store.contentDigests())], []);
});

test("without isolation a container is refused before anything is fetched", async () => {
  const bare = await createWorld({
    app: { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob },
    images: null,
  });
  try {
    await assert.rejects(bare.deploy(yaml()), /web: a container needs isolation, and ebb runs with --isolation none/);
  } finally {
    await bare.stop();
  }
});
