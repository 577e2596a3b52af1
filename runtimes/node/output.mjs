// Everything the function prints, and which invocation it belongs to. At concurrency 1 by marks around each invocation on
// the raw stdout and stderr, so that children and native code are attributed too; above it by async context, as frames on fd 4.

/** @import { AsyncLocalStorage } from "node:async_hooks" */
/** @typedef {"debug" | "info" | "warn" | "error"} Level */

const fs = process.getBuiltinModule("node:fs");
const { Writable } = process.getBuiltinModule("node:stream");

/** Another where no descriptor is passed (tcp.mjs). */
export const frames = { fd: 4 };
/** A frame's line on fd 4, at most; longer text is split. */
const frameBytes = 16 * 1024;
/** Characters of text in a frame: each takes up to 6 bytes in JSON (\u001b), and the members around it take some 120. */
const frameChars = Math.floor((frameBytes - 256) / 6);
/** Plain text takes two at most (\n). */
const plainChars = Math.floor((frameBytes - 256) / 2);
// eslint-disable-next-line no-control-regex
const plain = /^[\n\t -!#-[\]-~]*$/;

/** Cells to sleep on while a pipe is full; ebb always drains, so it is never long. */
let sleeper = /** @type {Int32Array | null} */ (null);

/**
 * Writes all of it before it returns: a full pipe holds the function back, a reader that is gone loses the text.
 * Never throws: printing must not be able to kill.
 * @param {number} fd @param {string | Uint8Array} data
 */
export function writeAll(fd, data) {
  let rest = typeof data === "string" ? null : data;
  for (;;) {
    try {
      if (rest === null) {
        const text = /** @type {string} */ (data);
        const wrote = fs.writeSync(fd, text);
        // Almost always all of it: only then is a buffer made.
        if (wrote >= Buffer.byteLength(text)) return;
        rest = Buffer.from(text).subarray(wrote);
      } else if (rest.byteLength > 0) rest = rest.subarray(fs.writeSync(fd, rest));
      if (rest.byteLength === 0) return;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EAGAIN") return;
      sleeper ??= new Int32Array(new SharedArrayBuffer(4));
      Atomics.wait(sleeper, 0, 0, 1);
    }
  }
}

/**
 * process.stdout and process.stderr as the function sees them: synchronous, so that nothing is left behind by an exit and
 * nothing overtakes a mark, and without Node's own pipe handle, which would make the shared pipe non-blocking for children.
 */
class OutputStream extends Writable {
  /** @param {number} fd @param {(fd: number, chunk: string | Uint8Array) => void} sink */
  constructor(fd, sink) {
    super({ decodeStrings: false, emitClose: false });
    this.fd = fd;
    this._type = "pipe";
    this.isTTY = false;
    this.sink = sink;
  }

  /** @override @param {string | Uint8Array} chunk @param {BufferEncoding} encoding @param {() => void} done */
  _write(chunk, encoding, done) {
    const utf8 = typeof chunk !== "string" || encoding === "utf8" || encoding === "utf-8";
    this.sink(this.fd, utf8 ? chunk : Buffer.from(chunk, encoding));
    done();
  }

  /** Ends never: the process does. @override @param {Error | null} _error @param {(error?: Error | null) => void} done */
  _destroy(_error, done) {
    done(null);
  }
}

/** Where what is printed goes. @type {(fd: number, chunk: string | Uint8Array) => void} */
let sink = writeAll;

/** Before anything is assigned: V8 forgets what it has learned of `process` where one of its members is defined anew. */
export function replaceStreams() {
  for (const [name, fd] of /** @type {const} */ ([
    ["stdout", 1],
    ["stderr", 2],
  ])) {
    /** @type {OutputStream | null} */
    let stream = null;
    const get = () => (stream ??= new OutputStream(fd, (to, chunk) => sink(to, chunk)));
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get });
  }
}

export class Output {
  /** @param {string} nonce @param {number} concurrency @param {readonly number[]} marked descriptors on which invocations are marked */
  constructor(nonce, concurrency, marked = [1, 2]) {
    this.marked = marked;
    this.begins = `\x1e${nonce} + `;
    this.ends = `\x1e${nonce} - `;
    /** @type {AsyncLocalStorage<string> | null} */
    this.context = null;
    /** @type {Level | null} */
    this.level = null;
    if (concurrency > 1) {
      const { AsyncLocalStorage } = process.getBuiltinModule("node:async_hooks");
      this.context = new AsyncLocalStorage();
      this.#watchLevels();
    }
    sink = this.context === null ? writeAll : this.#frame.bind(this);
  }

  /** An invocation begins. @param {string} id */
  begin(id) {
    if (this.context !== null) return;
    const mark = `${this.begins}${id}\n`;
    for (const fd of this.marked) writeAll(fd, mark);
  }

  /** An invocation is over; what is printed from here on belongs to none. @param {string} id */
  end(id) {
    if (this.context !== null) return;
    const mark = `${this.ends}${id}\n`;
    for (const fd of this.marked) writeAll(fd, mark);
  }

  /** Runs `call` so that what it prints, now or later, is of this invocation. @template T @param {string} id @param {() => T} call @returns {T} */
  run(id, call) {
    return this.context === null ? call() : this.context.run(id, call);
  }

  /** To stderr, of the given invocation or of none. @param {string | null} id @param {string} text */
  error(id, text) {
    if (this.context === null) writeAll(2, text);
    else this.#write(id, "err", "error", text);
  }

  /** @param {number} fd @param {string | Uint8Array} chunk */
  #frame(fd, chunk) {
    const text =
      typeof chunk === "string" ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString();
    this.#write(this.context?.getStore() ?? null, fd === 1 ? "out" : "err", this.level, text);
  }

  /** @param {string | null} id @param {"out" | "err"} stream @param {Level | null} level @param {string} text */
  #write(id, stream, level, text) {
    const head = `{"i":${id === null ? "null" : JSON.stringify(id)},"s":"${stream}","t":${Date.now()}${level === null ? "" : `,"l":"${level}"`},"m":`;
    const step = plain.test(text) ? plainChars : frameChars;
    for (let at = 0; at < text.length;) {
      let end = Math.min(at + step, text.length);
      // A surrogate pair stays together.
      if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end -= 1;
      writeAll(frames.fd, `${head}${JSON.stringify(text.slice(at, end))}}\n`);
      at = end;
    }
  }

  /** console.warn is a warning though it goes to stderr as errors do. */
  #watchLevels() {
    const levels = /** @type {const} */ ({
      debug: "debug",
      log: "info",
      info: "info",
      warn: "warn",
      error: "error",
      trace: "error",
    });
    for (const [method, level] of Object.entries(levels)) {
      const name = /** @type {keyof typeof levels} */ (method);
      const original = console[name];
      console[name] = (...values) => {
        this.level = level;
        try {
          original(...values);
        } finally {
          this.level = null;
        }
      };
    }
  }
}
