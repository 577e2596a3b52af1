// Starting instances of the handlers in handlers/, and stopping whatever a test has started.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, it, type TestContext } from "node:test";
import { Instance, nonce, type Assignment, type Failed, type Launcher, type Ready } from "./instance.ts";

export const handlersFolder = path.join(import.meta.dirname, "handlers");

export interface Runtime {
  readonly name: string;
  readonly language: string;
  readonly launcher: Launcher;
  /** Name of a case to why it cannot be had under this launcher. */
  readonly skip?: Readonly<Record<string, string>>;
}

/** node:test's `it`, without the cases that the runtime's launcher cannot do. */
export function itOf(runtime: Runtime): (name: string, run: (t: TestContext) => Promise<void>) => void {
  return (name, run) => void it(name, { skip: runtime.skip?.[name] ?? false }, run);
}

export function assignmentOf(code: string, changes: Partial<Assignment> = {}): Assignment {
  const env = { PORT: "8080", EBB_PROJECT: "default", EBB_WORKLOAD: "hello", EBB_REVISION: "r1", ...changes.env };
  const limits = { timeoutMs: 30_000, bufferedBodyBytes: 6 * 1024 * 1024, memoryMb: 256 };
  return {
    nonce,
    instance: "itest",
    code,
    entry: null,
    handler: null,
    signature: null,
    concurrency: 1,
    limits,
    check: false,
    ...changes,
    env,
  };
}

/** Who says when something has to end: a test, or a part of the suite. */
type Ends = { after(end: () => void | Promise<void>): void };

/** A process without code, stopped when the test ends. */
export async function pooled(t: Ends, runtime: Runtime): Promise<Instance> {
  const instance = new Instance(await runtime.launcher());
  t.after(() => instance.stop());
  await instance.openControl();
  return instance;
}

/** An instance that serves the given handlers; fails the test where it does not. */
export async function serving(
  t: Ends,
  runtime: Runtime,
  code: string,
  changes: Partial<Assignment> = {},
): Promise<Instance & { ready: Ready }> {
  const instance = await pooled(t, runtime);
  const answer = await instance.assign(assignmentOf(code, changes));
  if (!("ready" in answer)) throw new Error(`${code}: ${answer.failed.message}\n${answer.failed.stack ?? ""}`);
  return Object.assign(instance, { ready: answer.ready });
}

/**
 * One instance for the tests of a part, from the first that asks to the end of the last: most of what a test costs is a start. Each
 * must leave it as it was; the part runs one test at a time, as an instance of concurrency 1 is called.
 */
export function shared(
  runtime: Runtime,
  code: string,
  changes: Partial<Assignment> = {},
): () => Promise<Instance & { ready: Ready }> {
  const ends: (() => void | Promise<void>)[] = [];
  after(async () => {
    for (const end of ends) await end();
  });
  let serves: Promise<Instance & { ready: Ready }> | undefined;
  return () => (serves ??= serving({ after: (end) => void ends.push(end) }, runtime, code, changes));
}

export async function failing(
  t: TestContext,
  runtime: Runtime,
  code: string,
  changes: Partial<Assignment> = {},
): Promise<Instance & { failed: Failed }> {
  const instance = await pooled(t, runtime);
  const answer = await instance.assign(assignmentOf(code, changes));
  if (!("failed" in answer)) throw new Error(`${code}: it was recognised as ${JSON.stringify(answer.ready)}`);
  return Object.assign(instance, { failed: answer.failed });
}

/** A folder with these files, gone when the test ends, or the part. */
export function codeOf(t: Ends, files: Record<string, string>): string {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "ebb-code-")));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  }
  return folder;
}
