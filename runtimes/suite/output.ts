// What a function prints belongs to the right invocation: marks at concurrency 1, frames above it.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import { newId, nonce } from "./instance.ts";
import { itOf, type Runtime, handlersFolder, shared } from "./support.ts";

/** From the mark of its beginning on. */
const from = (text: string, id: string): string => text.slice(text.indexOf(`\x1e${nonce} + ${id}\n`));

export function outputSuite(runtime: Runtime): void {
  const it = itOf(runtime);
  const code = path.join(handlersFolder, runtime.language, "behaviour");

  describe(`${runtime.name}: output`, { concurrency: 1 }, () => {
    const marked = shared(runtime, code);
    const framed = shared(runtime, code, { concurrency: 2 });

    // The first of its instance: nothing else has been said yet.
    it("stands between marks on both streams, the end mark before the answer's end", async () => {
      const instance = await marked();
      const [first, second] = [newId(), newId()];
      await instance.request({ target: "/print?text=one", id: first });
      await instance.request({ target: "/print?text=two", id: second });
      const wanted = (stream: string): string =>
        [
          [first, "one"],
          [second, "two"],
        ]
          .map(([id, text]) => `\x1e${nonce} + ${id}\n${stream} ${text}\n\x1e${nonce} - ${id}\n`)
          .join("");
      await instance.output.until(
        (output) => output.stdout.includes(`- ${second}\n`) && output.stderr.includes(`- ${second}\n`),
      );
      assert.equal(instance.output.stdout, wanted("out"));
      assert.equal(instance.output.stderr, wanted("err"));
    });

    it("of a child is within the marks too", async () => {
      const instance = await marked();
      const id = newId();
      await instance.request({ target: "/child", id });
      await instance.output.until((output) => output.stdout.includes(`- ${id}\n`));
      assert.equal(from(instance.output.stdout, id), `\x1e${nonce} + ${id}\nfrom the child\n\x1e${nonce} - ${id}\n`);
    });

    it("larger than the pipe arrives whole, and before the end mark", async () => {
      const instance = await marked();
      const id = newId();
      await instance.request({ target: "/print-long?chars=1000000", id });
      await instance.output.until((output) => output.stdout.includes(`- ${id}\n`));
      const wanted = `\x1e${nonce} + ${id}\n${"x".repeat(1_000_000)}\n\x1e${nonce} - ${id}\n`;
      assert.equal(from(instance.output.stdout, id), wanted);
    });

    it("of two at a time is told apart in frames", async () => {
      const instance = await framed();
      const [a, b] = [newId(), newId()];
      const answers = await Promise.all([
        instance.request({ target: "/meet?who=a", id: a }),
        instance.request({ target: "/meet?who=b", id: b }),
      ]);
      assert.deepEqual(
        answers.map((answer) => answer.text),
        ["met", "met"],
      );
      await instance.output.until((output) => output.frameText.split("\n").length > 4);
      const of = (id: string): string =>
        instance.output.frames
          .filter((frame) => frame.i === id)
          .map((frame) => frame.m)
          .join("");
      assert.equal(of(a), "arrived a\nmet a\n");
      assert.equal(of(b), "arrived b\nmet b\n");
      assert.equal(instance.output.stdout, "");
    });

    it("in frames says its stream and time, and no line is longer than 16 KiB", async () => {
      const instance = await framed();
      const before = instance.output.frames.length;
      const id = newId();
      await instance.request({ target: "/print?text=x", id });
      await instance.request({ target: "/print-long?chars=100000", id });
      await instance.output.until((output) => output.frameText.endsWith('\\n"}\n') && output.frameText.includes("xxx"));
      const frames = instance.output.frames.slice(before);
      assert.deepEqual(
        frames.slice(0, 2).map(({ s, m }) => [s, m]),
        [
          ["out", "out x\n"],
          ["err", "err x\n"],
        ],
      );
      assert.ok(Math.abs(Date.now() - (frames[0]?.t ?? 0)) < 60_000);
      assert.equal(
        frames
          .slice(2)
          .map((frame) => frame.m)
          .join(""),
        `${"x".repeat(100_000)}\n`,
      );
      for (const line of instance.output.frameText.split("\n")) assert.ok(Buffer.byteLength(line) < 16 * 1024);
    });

    it("of a failing handler is in its frame", async () => {
      const instance = await framed();
      const before = instance.output.frames.length;
      const id = newId();
      await instance.request({ target: "/throw", id });
      await instance.output.until((output) => output.frameText.includes("boom"));
      assert.deepEqual(
        instance.output.frames.slice(before).map(({ i, s, l }) => ({ i, s, l })),
        [{ i: id, s: "err", l: "error" }],
      );
    });
  });
}
