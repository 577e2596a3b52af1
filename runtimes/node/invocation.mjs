// One invocation from its request to its end: marks, time left, what it still waits for, and how ebb hears that it is done.

import { invocationBegins } from "./collector.mjs";

/** @import { Output } from "./output.mjs" */

/** Without a header that says it: as long as ebb allows any. */
const longestMs = 3_600_000;

/** Of a clock that only goes on. Not performance.now(): its first mention loads eight of Node's modules. */
export function steadyMs() {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

export class Invocations {
  /** @param {Output} output @param {(id: string) => void} tellDone */
  constructor(output, tellDone) {
    this.output = output;
    this.tellDone = tellDone;
    this.active = 0;
    /** Called whenever none is left. @type {(() => void) | null} */
    this.onIdle = null;
  }

  /** @param {string | undefined} id @param {string | undefined} deadlineMs @returns {Invocation} */
  begin(id, deadlineMs) {
    const invocation = new Invocation(this, id ?? "", Number(deadlineMs ?? longestMs));
    this.active += 1;
    invocationBegins();
    this.output.begin(invocation.id);
    return invocation;
  }
}

export class Invocation {
  /** @param {Invocations} all @param {string} id @param {number} remainingMs */
  constructor(all, id, remainingMs) {
    this.all = all;
    this.id = id;
    this.deadline = steadyMs() + remainingMs;
    /** Promises of waitUntil that are not settled. */
    this.pending = 0;
    this.over = false;
    this.ending = false;
    this.gone = false;
    /** Made when it is first asked for. @type {AbortController | null} */
    this.controller = null;
  }

  get remainingMs() {
    return Math.max(0, Math.floor(this.deadline - steadyMs()));
  }

  get signal() {
    if (this.controller === null) {
      this.controller = new AbortController();
      if (this.gone) this.abort();
    }
    return this.controller.signal;
  }

  /** The client has gone. */
  abort() {
    this.gone = true;
    this.controller?.abort(new DOMException("The client has gone.", "AbortError"));
  }

  /** The invocation does not end before this. @param {unknown} work */
  waitUntil(work) {
    if (this.over) throw new Error("waitUntil was called after the invocation's end");
    this.pending += 1;
    const settled = () => {
      this.pending -= 1;
      if (this.ending && this.pending === 0) this.#close(true);
    };
    Promise.resolve(work).then(settled, (error) => {
      this.all.output.error(this.id, `${stackOf(error)}\n`);
      settled();
    });
  }

  /** Whether it ends with a complete answer that is about to go out: then it has ended, and that answer says so. */
  endsWithAnswer() {
    if (this.pending > 0 || this.over) return false;
    this.#close(false);
    return true;
  }

  /** The handler has settled and its answer is complete, or will never be. */
  end() {
    if (this.over || this.ending) return;
    this.ending = true;
    if (this.pending === 0) this.#close(true);
  }

  /** @param {boolean} tell */
  #close(tell) {
    const { all } = this;
    this.over = true;
    all.active -= 1;
    // First the mark, then the word: whoever hears "done" has all of its output before that in the pipe.
    all.output.end(this.id);
    if (tell && this.id !== "") all.tellDone(this.id);
    if (all.active === 0) all.onIdle?.();
  }
}

const shimFolder = new URL(".", import.meta.url).href;
const shimPath = new URL(".", import.meta.url).pathname;

/** An error as its author wants to read it: without the frames of Node and of this shim. @param {unknown} error @returns {string} */
export function stackOf(error) {
  if (!(error instanceof Error) && !isErrorLike(error)) return `Uncaught ${inspect(error)}`;
  const stack = sourceLines(String(error.stack ?? error));
  const lines = stack.split("\n").filter((line) => !/^\s+at /.test(line) || !isOurs(line));
  const rest = Object.keys(error).length > 0 || error.cause !== undefined ? detailsOf(error) : "";
  return lines.join("\n") + rest;
}

/** @type {((stack: string) => string) | null} */
let mapped = null;

/** A stack in the author's own lines, whether or not Node was told to map them. @param {string} stack */
export function sourceLines(stack) {
  if (process.sourceMapsEnabled) return stack;
  if (mapped === null) {
    const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);
    mapped = /** @type {typeof import("./source-lines.mjs")} */ (require("./source-lines.mjs")).inSourceLines;
  }
  return mapped(stack);
}

/** @param {string} line */
function isOurs(line) {
  return (
    line.includes(shimFolder) ||
    line.includes(shimPath) ||
    line.includes("(node:internal/") ||
    /at (?:async )?node:internal\//.test(line)
  );
}

/** The members that an error carries beside its message, and its cause. @param {Error} error */
function detailsOf(error) {
  const members = Object.fromEntries(Object.entries(error));
  const own = Object.keys(members).length > 0 ? ` ${inspect(members)}` : "";
  return error.cause === undefined ? own : `${own}\n  cause: ${stackOf(error.cause).replaceAll("\n", "\n  ")}`;
}

/** @param {unknown} value */
function inspect(value) {
  return process.getBuiltinModule("node:util").inspect(value, { depth: 2 });
}

/** @param {unknown} value @returns {value is Error} of another realm */
function isErrorLike(value) {
  return Object.prototype.toString.call(value) === "[object Error]";
}

/** @param {unknown} error @returns {string} one sentence, bounded */
export function messageOf(error) {
  let text;
  try {
    text = error instanceof Error || isErrorLike(error) ? error.message || error.name : `thrown: ${inspect(error)}`;
  } catch {
    text = "an error that cannot be shown";
  }
  return text.length > 2_000 ? `${text.slice(0, 2_000)}…` : text;
}
