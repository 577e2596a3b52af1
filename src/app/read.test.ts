// Runs the cases of fixtures/*.txt: a title, an app file, a ruler, and word for word what the reader says to it.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { deployLimits } from "#model/limits.ts";
import { readApp, sentenceOf } from "./read.ts";

const ruler = "----------\n";
const folder = new URL("./fixtures/", import.meta.url);

interface Case {
  readonly title: string;
  readonly text: string;
  readonly said: string;
}

/** Visible stand-ins for what an editor would lose; ␃ at the end: the file does not end with a newline. */
function unescape(text: string): string {
  return text
    .replaceAll("␀", "\0")
    .replaceAll("␍", "\r")
    .replaceAll("␉", "\t")
    .replaceAll("␂", "\uFEFF")
    .replace(/␃\n$/, "");
}

function casesOf(topic: string): Case[] {
  const [, ...chunks] = readFileSync(new URL(topic, folder), "utf8").split("\n=== ");
  return chunks.map((chunk) => {
    const title = chunk.slice(0, chunk.indexOf("\n"));
    const at = chunk.indexOf(ruler, title.length);
    assert.ok(at > 0, `${topic}: "${title}" has no ruler`);
    return { title, text: unescape(chunk.slice(title.length + 1, at)), said: chunk.slice(at + ruler.length).trimEnd() };
  });
}

function say(text: string): string {
  const read = readApp(text, "ebb.yaml");
  return read.ok ? JSON.stringify(read.app) : read.problems.map(sentenceOf).join("\n");
}

let cases = 0;
for (const topic of readdirSync(folder).filter((name) => name.endsWith(".txt"))) {
  test(`ebb.yaml, read: ${topic.replace(".txt", "")}`, async (t) => {
    for (const { title, text, said } of casesOf(topic)) {
      cases += 1;
      await t.test(title, () => assert.equal(say(text), said));
    }
  });
}

test("the cases are found", () => assert.ok(cases >= 240, `only ${cases}`));

test("a file that is too large is refused by its size, before it is parsed", () => {
  const read = readApp("#".repeat(deployLimits.appFileBytes + 1), "ebb.yaml");
  assert.deepEqual(read, {
    ok: false,
    problems: [{ file: "ebb.yaml", line: 1, path: "", message: `expected at most ${deployLimits.appFileBytes} bytes` }],
  });
});

test("a file of nothing but tokens, lines or nesting is refused before it costs the loop", () => {
  const bytes = deployLimits.appFileBytes - 16;
  for (const unit of ["[", "- ", "a: 1,", "\n", '"', "!a ", "&a ", "*a,", "? ", "#\n", "{}", " :", "---\n"]) {
    const begun = performance.now();
    assert.equal(readApp(`a: ${unit.repeat(Math.floor(bytes / unit.length))}`, "ebb.yaml").ok, false, unit);
    assert.ok(performance.now() - begun < 500, `${JSON.stringify(unit)} took ${performance.now() - begun} ms`);
  }
  const steps = Array.from({ length: 1_300 }, (_, i) => `${" ".repeat(i)}a:`).join("\n");
  assert.match(say(steps), /^ebb\.yaml:\d+: nested too deeply to be read$/);
  // Lines that go in and out again are not nested.
  const zigzag = Array.from({ length: 1_300 }, (_, i) =>
    i % 2 === 0 ? `a${i}:` : `    ${" ".repeat(i % 9)}b: 1`,
  ).join("\n");
  assert.doesNotMatch(say(zigzag), /nested/);
});

const key = fc.constantFrom(
  "functions",
  "a",
  "source",
  "env",
  "command",
  "secrets",
  "<<",
  "project",
  "min",
  "x y",
  "?",
);
const scalar = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom(
    "*a",
    "&a b",
    "!t x",
    "|",
    ">-",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "1e3",
    "~",
    "- x",
    "%YAML 1.2",
    "---",
    "\t",
    "\0",
    "\u2028",
  ),
);
const line = fc.tuple(fc.nat(8), key, scalar).map(([indent, name, value]) => `${" ".repeat(indent)}${name}: ${value}`);

/** Any code point. fast-check's own "binary" is that too, and takes a second and a half to be made. */
const anyCodePoint = fc.nat({ max: 0x10ffff - 0x800 }).map((n) => String.fromCodePoint(n < 0xd800 ? n : n + 0x800));

test("no text makes the reader throw, and every problem has its file and line", () => {
  const text = fc.oneof(
    fc.string({ unit: anyCodePoint, maxLength: 200 }),
    fc.array(line, { maxLength: 14 }).map((lines) => lines.join("\n")),
  );
  fc.assert(
    fc.property(text, (value) => {
      const read = readApp(value, "ebb.yaml");
      if (read.ok) return read.app.functions.length > 0;
      const lines = value.split("\n").length + 1;
      return (
        read.problems.length > 0 &&
        read.problems.every((p) => p.file === "ebb.yaml" && p.line >= 1 && p.line <= lines && p.message.length < 700)
      );
    }),
    { numRuns: 1_500 },
  );
});

test("every env value arrives as it was written between quotes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 40 }), (value) => {
      const read = readApp(`functions: { a: { source: ., env: { K: ${JSON.stringify(value)} } } }`, "ebb.yaml");
      return value.includes("\0") ? !read.ok : read.ok && read.app.functions[0]?.env?.["K"] === value;
    }),
    { numRuns: 300 },
  );
});
