// The pure parts of the command line: what reaches a terminal, what was meant, times, the generated reference.

import assert from "node:assert/strict";
import { test } from "node:test";
import { referenceMarkdown } from "./help.ts";
import { ago, figure, sanitized, scalingWord, stateWord } from "./output.ts";
import { findCommand, parseCommand, usageLine } from "./parse.ts";
import { commands } from "./table.ts";
import { ahead, past } from "./time.ts";

test("nothing that drives a terminal gets through", () => {
  const attacks = ["\u001b[2J", "\u001b]0;title\u0007", "\u009b31m", "a\bb", "\u202egnp.exe", "\u0000"];
  for (const attack of attacks) assert.match(sanitized(attack), /^[\x20-\x7e]*$/, JSON.stringify(attack));
  assert.equal(sanitized("tab\tline\nreturn\r\n ümläut 日本"), "tab\tline\nreturn\n ümläut 日本");
});

test("ready, paused and none are told apart, and what is wrong goes before them", () => {
  const word = (instances: number, paused: number, state = "ready") =>
    stateWord({ kind: "function", state, instances, paused, nextStart: null });
  assert.deepEqual([word(0, 0), word(2, 0), word(2, 1), word(2, 2)], ["asleep", "ready", "ready", "paused"]);
  assert.equal(word(1, 1, "crash_loop"), "crash_loop");
  const loop = { kind: "container", state: "crash_loop", instances: 0, paused: 0, nextStart: "2026-01-01T00:01:00Z" };
  assert.equal(stateWord(loop, Date.parse("2026-01-01T00:00:48Z")), "crash_loop, next start in 12 s");
  assert.equal(stateWord(loop, Date.parse("2026-01-01T00:01:00Z")), "crash_loop");
});

test("by what a workload scales is a word or two", () => {
  const word = (by: string, target: number, percent: number | null = null) =>
    scalingWord({ by, target, percent, last: null });
  assert.deepEqual([word("requests", 80), word("requests", 1)], ["80 requests", "1 request"]);
  assert.deepEqual([word("cpu", 60), word("memory", 70, 81)], ["cpu 60%", "memory 81/70%"]);
  assert.equal(scalingWord(null), "-");
});

test("times go back for records and ahead for tokens", () => {
  const now = Date.UTC(2026, 10, 24);
  assert.equal(past("since", "10m", now), now - 600_000);
  assert.equal(ahead("expires", "90d", now), now + 90 * 86_400_000);
  assert.equal(past("since", "2026-11-23T00:00:00Z", now), now - 86_400_000);
  assert.equal(past("since", null, now), null);
  for (const wrong of ["yesterday", "10", "-5m", "10y", ""]) assert.throws(() => past("since", wrong, now), /--since/);
});

test("ages and figures are short", () => {
  const now = Date.parse("2026-11-24T12:00:00Z");
  const times = ["2026-11-24T11:59:55Z", "2026-11-24T11:57:00Z", "2026-11-24T07:00:00Z", "2026-11-20T12:00:00Z"];
  assert.deepEqual([...times.map((time) => ago(time, now)), ago(null, now)], ["5s", "3m", "5h", "4d", "-"]);
  assert.deepEqual([0, 0.0012345, 1.2345, 12_345].map(figure), ["0", "0.00123", "1.23", "12,345"]);
});

test("every command is in the reference, can be loaded, and has a name of its own", async () => {
  const reference = referenceMarkdown(commands);
  assert.equal(new Set(commands.map(({ name }) => name)).size, commands.length);
  for (const command of commands) {
    assert.ok(reference.includes(`## ebb ${command.name}\n`));
    assert.ok(usageLine(command).startsWith(`ebb ${command.name}`));
    assert.equal(typeof (await command.load()).run, "function");
  }
});

test("what stands behind -- is passed on where a command does so, and is no option of ebb's", () => {
  const { command, rest } = findCommand(["jobs", "run", "x", "--memory", "64", "--", "--wait", "-x", "--"], commands)!;
  const parsed = parseCommand(command, rest);
  assert.deepEqual(
    [parsed.arguments, parsed.after, parsed.options.number("memory")],
    [["x"], ["--wait", "-x", "--"], 64],
  );
  assert.equal(parsed.options.flag("wait"), false);
  assert.equal(parseCommand(command, ["x"]).after, null);
});
