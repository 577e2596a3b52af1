// A Dockerfile is read twice, by ebb and by buildah: nothing may stand in it that only the second one sees.

import assert from "node:assert/strict";
import { test } from "node:test";
import { imageLimits } from "#model/limits.ts";
import { buildArguments, readDockerfile } from "./dockerfile.ts";
import { neededStages, planStage, writtenStep, writtenWhole } from "./steps.ts";
import { defaultShell } from "./run-instruction.ts";
import { EbbError } from "#model/errors.ts";

const basesOf = (text: string, file: string): readonly string[] => readDockerfile(text, file).bases;

function refused(text: string, words: RegExp): void {
  assert.throws(() => basesOf(text, "Dockerfile"), words, JSON.stringify(text));
}

/** What would be run, of every stage; and of what buildah is given nothing is. */
function runsOf(text: string): ReadonlyArray<readonly string[]> {
  const file = readDockerfile(text, "Dockerfile");
  const steps = file.stages.flatMap((_, index) => planStage(file, index, defaultShell, refuse).steps);
  for (const step of steps)
    if (step.kind === "said") assert.doesNotMatch(writtenStep(file, step, "x", String), /^\W*RUN\b/im);
  return steps.flatMap((step) => (step.kind === "run" ? [step.command] : []));
}

function refuse(line: number, why: string): EbbError {
  return new EbbError("image_refused", `Dockerfile:${line}: ${why}`);
}

const id = ["/bin/sh", "-c", "id"];

test("a command with a NUL in it is refused: nothing could be started by it", () => {
  for (const text of ['RUN ["a", "b\\u0000"]', 'SHELL ["/bin/sh\\u0000", "-c"]\nRUN id'])
    assert.throws(() => runsOf(`FROM scratch\n${text}`), /Dockerfile:[23]: there is a NUL in it/, text);
});

test("args are in the place of what ARG lines give, and are refused where none asks for them", () => {
  const text = "ARG BASE=a TAG\nFROM $BASE:${TAG:-1} AS one\nARG HERE\nRUN id\nFROM $BASE:$TAG";
  const read = (args: Record<string, string>) => readDockerfile(text, "Dockerfile", { args });
  assert.deepEqual(read({ TAG: "2", BASE: "b" }).bases, ["b:2"]);
  const asked = (args: Record<string, string>) =>
    planStage(read(args), 0, defaultShell, refuse).steps.flatMap((step) => (step.kind === "said" ? step.asked : []));
  assert.deepEqual(asked({ TAG: "2" }), [{ name: "HERE", given: false }]);
  assert.deepEqual(asked({ TAG: "2", HERE: "" }), [{ name: "HERE", given: true }]);
  assert.throws(() => read({ TAG: "2", THERE: "x" }), /there is no ARG THERE in it/);
});

test("an ARG that is longer than a word of a command may be is refused by its name", () => {
  const one = (value: string): string[] => buildArguments(new Map([["NOTES", value]]), "Dockerfile");
  const longest = "x".repeat(imageLimits.argumentBytes - "--build-arg=NOTES=".length - 1);
  assert.deepEqual(one(longest), [`--build-arg=NOTES=${longest}`]);
  assert.throws(() => one(`${longest}x`), /Dockerfile: the value of its ARG NOTES is longer than 128 KiB/);
});

test("a target is the last stage that is read", () => {
  const text = "FROM a AS one\nFROM b AS Two\nRUN id\nFROM c AS three\nADD https://x/y /z";
  const read = (target: string) => readDockerfile(text, "Dockerfile", { target });
  assert.deepEqual(read("one").bases, ["a"]);
  assert.deepEqual(read("two").bases, ["a", "b"]);
  assert.deepEqual(neededStages(read("two")), [1]);
  assert.throws(() => read("three"), /Dockerfile:5: ADD of an address/);
  assert.throws(() => readDockerfile("FROM a", "Dockerfile", { target: "0" }), /there is no stage "0" in it/);
});

test("a RUN is seen however it is written", () => {
  const seen = (text: string): void => assert.deepEqual(runsOf(text), [id], JSON.stringify(text));
  seen("FROM scratch\nR\\\nUN id");
  seen("FROM scratch\nRU\\  \n# comment\n\nN id");
  seen("\ufeffFROM scratch\r\nRUN id\r\n");
  seen("FROM scratch\n\u0085run id");
  seen("FROM scratch\n\u00a0RUN id");
  seen("FROM scratch\nLABEL a=b \\\u00a0\nRUN id");
  seen("FROM scratch\nLABEL a=b \\\r\r\nRUN id");
  // What stands behind is a line of its own, and none that there is: buildah says so.
  seen('FROM scratch\nLABEL a="<<END"\nRUN id\nEND');
  seen("FROM scratch\nENV A=<<END\nRUN id\nEND");
});

test("a RUN is its shell's, its own list of words, or a text within the file", () => {
  const runs = (...lines: string[]): ReadonlyArray<readonly string[]> => runsOf(["FROM scratch", ...lines].join("\n"));
  assert.deepEqual(runs("RUN a && \\", "  # why", "  b"), [["/bin/sh", "-c", "a &&   b"]]);
  assert.deepEqual(runs('RUN ["a", "$B"]', "RUN [ -f x ]"), [
    ["a", "$B"],
    ["/bin/sh", "-c", "[ -f x ]"],
  ]);
  assert.deepEqual(runs('SHELL ["/bin/bash", "-c"]', "RUN a"), [["/bin/bash", "-c", "a"]]);
  assert.deepEqual(runs("RUN <<EOF", "a", "RUN b", "EOF", "RUN c"), [
    ["/bin/sh", "-c", "a\nRUN b"],
    ["/bin/sh", "-c", "c"],
  ]);
  assert.deepEqual(runs("RUN <<-'E'", "\ta", "\tE"), [["/bin/sh", "-c", "a"]]);
  const python = "exec /usr/bin/env python3 /dev/stdin <<'E'\n#!/usr/bin/env python3\nprint(1)\nE\n";
  assert.deepEqual(runs("RUN <<E", "#!/usr/bin/env python3", "print(1)", "E"), [["/bin/sh", "-c", python]]);
  const both = "cat <<A - <<B > /x\n1\nA\n2\nB\n";
  assert.deepEqual(runs("RUN cat <<A - <<B > /x", "1", "A", "2", "B"), [["/bin/sh", "-c", both]]);
  assert.deepEqual(runs('RUN echo "a <<E b"'), [["/bin/sh", "-c", 'echo "a <<E b"']]);
  assert.throws(() => runs("RUN <<E", "a"), /Dockerfile:2: <<E has no line that ends it/);
  assert.throws(() => runs("RUN"), /Dockerfile:2: RUN says nothing to run/);
  assert.throws(() => runs("SHELL sh"), /Dockerfile:2: SHELL is a JSON list/);
});

test("of a RUN's options ebb takes no network, and caches, which begin empty and are not kept", () => {
  const plan = (line: string) => {
    const [step] = planStage(readDockerfile(`FROM scratch\n${line}`, "Dockerfile"), 0, defaultShell, refuse).steps;
    assert.ok(step?.kind === "run");
    return step;
  };
  const { command, leftOut, network } = plan("RUN --mount=type=cache,target=/root/.npm --network=none  npm  ci");
  assert.deepEqual([command, leftOut, network], [["/bin/sh", "-c", "npm  ci"], ["root/.npm"], false]);
  assert.equal(plan("RUN --network=default x").network, true);
  assert.throws(() => plan("RUN --mount=type=secret,id=x x"), /Dockerfile:2: ebb does not take --mount of type secret/);
  assert.throws(() => plan("RUN --mount=target=/x x"), /--mount of type bind/);
  assert.throws(() => plan("RUN --mount=type=cache,target=../x x"), /needs a target that is an absolute path/);
  assert.throws(() => plan("RUN --network=host x"), /does not take --network=host/);
  assert.throws(() => plan("RUN --security=insecure x"), /does not take --security=insecure/);
});

test("buildah is given what stands between, with names looked up and what was declared before", () => {
  const file = readDockerfile(
    [
      "ARG V=1",
      "FROM debian:$V AS first",
      'ARG A="x y" V',
      "COPY a \\",
      "  /a",
      "RUN one",
      "ARG C",
      "COPY --chown=1 --from=busybox:$V /b /b",
      "RUN two",
      "FROM first",
      "COPY --from=FIRST /a /c",
      "CMD x",
      "FROM unneeded",
    ].join("\n"),
    "Dockerfile",
  );
  const texts = (index: number): string[] =>
    planStage(file, index, defaultShell, refuse).steps.flatMap((step) =>
      step.kind === "said" ? [writtenStep(file, step, "so-far", (stage) => `made-${stage}`)] : [],
    );
  const asks = (name: string): string => `LABEL ebb.build.argument.${name}="\${${name}}"`;
  assert.deepEqual(texts(0), [
    ["ARG V=1", "FROM so-far", 'ARG A="x y" V', "COPY a   /a", asks("A"), asks("V"), ""].join("\n"),
    ["ARG V=1", "FROM so-far", "ARG A", "ARG V", "ARG C", "COPY --chown=1 --from=busybox:1 /b /b", asks("C"), ""].join(
      "\n",
    ),
  ]);
  assert.deepEqual(texts(1), ["ARG V=1\nFROM so-far\nCOPY --from=made-0 /a /c\nCMD x\n"]);
  assert.deepEqual(neededStages(file), [2]);
  const plain = readDockerfile("FROM a AS x\nFROM b\nCOPY --from=X /a /b\nFROM x\nCOPY --from=1 /b /c", "Dockerfile");
  assert.deepEqual(neededStages(plain), [0, 1, 2]);
  assert.equal(
    writtenWhole(plain),
    [
      "FROM a AS ebb-stage-0",
      "FROM b AS ebb-stage-1",
      "COPY --from=ebb-stage-0 /a /b",
      "FROM ebb-stage-0 AS ebb-stage-2",
      "COPY --from=ebb-stage-1 /b /c",
      "",
    ].join("\n"),
  );
});

test("a stage has a name that is no image's, and nothing is copied from one that is not there yet", () => {
  refused("FROM scratch AS oci:/srv/x", /Dockerfile:1: oci:\/srv\/x is no name of a stage/);
  refused("FROM scratch AS a\nCOPY --from=a /x /y", /Dockerfile:2: --from=a names no stage before this one/);
});

test("what readers take in several ways is refused", () => {
  refused("# hello\n# escape=`\nFROM scratch\nLABEL a=b `\nRUN id", /Dockerfile:2: escape is said in the first line/);
  refused("# escape=` x\nFROM scratch\nLABEL a=b \\\nRUN id", /Dockerfile:1: escape/);
  refused("FROM scratch\nLABEL a=b\\\\\nRUN id", /Dockerfile:2: a line ends with more than one/);
  assert.deepEqual(runsOf("FROM scratch\nLABEL a=b \\\n\ufeff# c\nR\\\nUN id"), [id]);
  refused("FROM scratch\nCOPY <<END /x\nRUN id\nEND", /Dockerfile:2: ebb takes no text from within the file/);
  refused("FROM scratch\n@ x", /Dockerfile:2: "@ x" is no instruction/);
});

test("where a COPY takes from is seen however it is written", () => {
  const file = (options: string): string => `FROM scratch\nCOPY ${options} /a /b`;
  assert.deepEqual(basesOf(file("--from=0 --from=oci:/srv/x"), "Dockerfile"), ["oci:/srv/x"]);
  refused(file("--fr\\om=oci:/srv/x"), /an option has quotes or escapes/);
  refused(file('--fr"o"m=oci:/srv/x'), /an option has quotes or escapes/);
  assert.deepEqual(basesOf("FR\\\nOM busybox\nCOPY --fr\\\nom=alpine /a /b", "Dockerfile"), ["busybox", "alpine"]);
});

test("a file that is all continuation, and one of very many bases, cost nothing", () => {
  assert.deepEqual(basesOf(`FROM a${"\\\n".repeat(400_000)}`, "Dockerfile"), ["a"]);
  refused(Array.from({ length: 50_000 }, (_, i) => `FROM a${i}`).join("\n"), /:33: it stands on more than 32 images/);
});

test("what is plain is read as before", () => {
  const text =
    'FROM busybox\n\nENV A=1 \\\n    # why\n    B=2\nCMD npm \\\n  run start\nLABEL c="--d=\\"e\\""\nCMD ["a", \\\n "b"]\n';
  assert.deepEqual(basesOf(text, "Dockerfile"), ["busybox"]);
  assert.deepEqual(basesOf("# escape=\\\nFROM busybox \\", "Dockerfile"), ["busybox"]);
});
