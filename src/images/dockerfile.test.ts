// A Dockerfile is read twice, by ebb and by buildah: nothing may stand in it that only the second one sees.

import assert from "node:assert/strict";
import { test } from "node:test";
import { basesOf } from "./dockerfile.ts";

function refused(text: string, words: RegExp): void {
  assert.throws(() => basesOf(text, "Dockerfile"), words, JSON.stringify(text));
}

const run = /Dockerfile:[0-9]+: ebb does not run RUN yet/;

test("a RUN is seen however it is written", () => {
  refused("FROM scratch\nR\\\nUN id", run);
  refused("FROM scratch\nRU\\  \n# comment\n\nN id", run);
  refused("FROM scratch\n\u0085run id", run);
  refused("FROM scratch\n\u00a0RUN id", run);
  refused("\ufeffFROM scratch\r\nRUN id\r\n", run);
  refused('FROM scratch\nLABEL a="<<END"\nRUN id\nEND', run);
  refused("FROM scratch\nENV A=<<END\nRUN id\nEND", run);
  refused("FROM scratch\nLABEL a=b \\\u00a0\nRUN id", run);
  refused("FROM scratch\nLABEL a=b \\\r\r\nRUN id", run);
});

test("what readers take in several ways is refused", () => {
  refused("# hello\n# escape=`\nFROM scratch\nLABEL a=b `\nRUN id", /Dockerfile:2: escape is said in the first line/);
  refused("# escape=` x\nFROM scratch\nLABEL a=b \\\nRUN id", /Dockerfile:1: escape/);
  refused("FROM scratch\nLABEL a=b\\\\\nRUN id", /Dockerfile:2: a line ends with more than one/);
  refused("FROM scratch\nLABEL a=b \\\n\ufeff# c\nR\\\nUN id", run);
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
