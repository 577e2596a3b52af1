// What images say of themselves, where it means harm.

import assert from "node:assert/strict";
import { test } from "node:test";
import { failureOf } from "./failures.ts";
import { failure } from "./images.testing.ts";
import { parseConfiguration, saysOnBuild } from "./manifest.ts";

const here = { os: "linux", architecture: "amd64" };

function directoryOf(said: string): string {
  const text = JSON.stringify({ ...here, rootfs: { diff_ids: [] }, config: { WorkingDir: said } });
  return parseConfiguration(text, here).config.workingDirectory;
}

test("a working directory is a plain path that can be made", () => {
  assert.equal(directoryOf(""), "/");
  assert.equal(directoryOf("//srv/./app//"), "/srv/app");
  assert.equal(directoryOf("/process"), "/process");
  for (const said of ["app", "/a/../b", "/proc", "/./proc/self", "//proc/1", `/${"x".repeat(256)}`, "/d".repeat(600)])
    assert.throws(() => directoryOf(said), failure("image_refused", /working directory .* is not an absolute path/));
  assert.throws(() => directoryOf("/a\0b"), failure("image_refused", /WorkingDir is malformed/));
});

test("what is asked of whoever builds on an image is seen as Go sees it", () => {
  assert.equal(saysOnBuild('{"config":{"OnBuild":null,"Env":["X=\\"onbuild\\":1"]}}'), false);
  assert.equal(saysOnBuild('{"config":{"OnBuild": [ ] },"history":[{"created_by":"ONBUILD RUN x"}]}'), false);
  assert.equal(saysOnBuild('{"config":{"OnBuild": ["RUN x"]}}'), true);
  assert.equal(saysOnBuild('{"Config":{"onbuild":["RUN x"]}}'), true);
  assert.equal(saysOnBuild('{"config":{"OnBuild":["RUN x"]},"config":{}}'), true);
  assert.equal(saysOnBuild('{"config":{"\\u004fnBu\\u0069ld" : ["RUN x"]}}'), true);
});

test("a registry without an address is its name's fault, which may be that of an image that names none", () => {
  const words =
    'time="x" level=fatal msg="pinging container registry registry-1.docker.io: Get \\"https://registry-1.docker.io/v2/\\": dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host"';
  const short = failureOf(words, { name: "web:1", registry: "docker.io" });
  assert.equal(short.code, "image_not_found");
  assert.match(short.message, /^web:1 names no registry, and docker\.io, .* has no address here; .*\.\/web\.tar/);
  const named = failureOf(words, { name: "registry.exmaple.com/web:1", registry: "registry.exmaple.com" });
  assert.equal(named.code, "image_not_found");
  assert.match(named.message, /^the registry registry\.exmaple\.com has no address here: check its name/);
  const asking = failureOf(words.replace("no such host", "server misbehaving"), { name: "a.b/c", registry: "a.b" });
  assert.equal(asking.code, "registry_failed", "a resolver that is down says nothing about a name");
});
