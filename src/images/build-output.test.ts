// What the commands of a build print is told within bounds, whatever they print.

import assert from "node:assert/strict";
import { test } from "node:test";
import { imageLimits } from "#model/limits.ts";
import { RunOutput, Told } from "./build-output.ts";

test("all commands of a build together have so many lines told, and the end of each is kept", () => {
  const lines: string[] = [];
  const told = new Told((line) => lines.push(line));
  const print = (text: string): string => {
    const output = new RunOutput(told);
    output.take(Buffer.from(text));
    output.end();
    return output.last;
  };
  print("a\n".repeat(imageLimits.runLinesTold - 1));
  assert.equal(print("b\nc\nd"), "b\nc\nd\n");
  assert.equal(print("e\n"), "e\n");
  assert.deepEqual(lines.slice(-2), ["b", "… it prints more, which is not told"]);
  assert.equal(lines.length, imageLimits.runLinesTold + 1);
});
