// The control connection to a runtime (runtimes/CONTRACT.md): assigns it once, and hears from it for life.
// What it says is a tenant's word: every line is bounded, every field is checked, and nonsense is the function's failure.

import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from "node:http";
import type { Duplex } from "node:stream";
import { request } from "#lib/http.ts";
import { isInvocationId, type InvocationId } from "#model/ids.ts";
import type { Failure } from "#model/instance.ts";
import { httpLimits, loadCacheLimits, sandboxLimits } from "#model/limits.ts";
import type { Signature } from "#model/workload.ts";
import type { Assignment, Failed, Ready } from "./door.ts";

export const assignPath = "/ebb/v1/assign";
/** Where the code is, inside. */
export const codeFolder = "/var/task";

const signatures: readonly Signature[] = ["web", "event", "node", "server", "wsgi", "asgi", "program"];
const textChars = 1_024;
const messageChars = 4_096;
const stackChars = 16_384;
const phasesCount = 32;
/** Of a start's time what is left at its end to tell how it went: by the runtime, that code does not come to the end of its loading, and here. */
const tellMs = 3_000;

/** One line, or so many bytes that were read or held again: what hearing costs the main thread, in about the same time. */
const unitBytes = 64;
const { controlUnitsPerSecond, controlUnitsBurst } = sandboxLimits;

export interface RuntimeLinkOptions {
  readonly connect: () => Duplex;
  readonly done: (invocation: InvocationId) => void;
}

/** A program without a runtime of ours says nothing: to have begun is all that it does. */
export const readyProgram: Ready = {
  ok: true,
  entry: null,
  handler: null,
  signature: "program",
  done: "response",
  shares: false,
  phases: {},
};

/** What the runtime is sent; the names are the contract's. */
export function assignBody(assignment: Assignment, code: string, memoryMb: number): string {
  return JSON.stringify({
    nonce: assignment.nonce,
    instance: assignment.instance,
    code,
    entry: assignment.entry,
    handler: assignment.handler,
    signature: assignment.signature,
    concurrency: assignment.concurrency,
    env: assignment.env,
    limits: {
      timeoutMs: assignment.timeoutMs,
      bufferedBodyBytes: httpLimits.bufferedBodyBytes,
      memoryMb,
      loadMs: sandboxLimits.startMs - tellMs,
    },
    check: assignment.check,
    cache: assignment.makeLoadCache ? "make" : assignment.loadCache === null ? null : "use",
  });
}

export class RuntimeLink {
  readonly #options: RuntimeLinkOptions;
  #request: ClientRequest | null = null;
  #answered: ((answer: Ready | Failed | null) => void) | null = null;
  /** The connection has ended. */
  #lost = false;
  #taken = false;
  #late: NodeJS.Timeout | undefined;
  /** What may still be heard at once; below zero, the rest waits in the sandbox's own socket. */
  #units: number = controlUnitsBurst;
  #refilledMs = 0;
  #waiting: NodeJS.Timeout | undefined;
  /** Pieces of the compiled code that it was asked for; null: it was not, or has told too much. */
  #pieces: Buffer[] | null = null;
  #piecesBytes = 0;
  /** Resolves when the runtime has said its last word. */
  readonly #said = Promise.withResolvers<void>();
  #hearsOut = false;

  constructor(options: RuntimeLinkOptions) {
    this.#options = options;
  }

  /** The runtime has begun to answer: from here on it loads code. */
  get taken(): boolean {
    return this.#taken;
  }

  /** Sends the head of the assignment before there is one: the connection is there, and the runtime waits for the rest. */
  open(): void {
    this.#begin({ "transfer-encoding": "chunked" }).flushHeaders();
  }

  /**
   * Answers the first line of the runtime; a connection that ends before it is null: look at how the sandbox ended.
   * `cached`: the runtime is asked to tell its compiled code; `loadCache` must be called then.
   */
  assign(body: string, takeWithinMs: number | null = null, cached = false): Promise<Ready | Failed | null> {
    if (cached) [this.#pieces, this.#hearsOut] = [[], true];
    return new Promise((resolve) => {
      if (this.#lost) return resolve(null);
      this.#answered = resolve;
      if (takeWithinMs !== null) this.#late = setTimeout(() => this.#tooLate(takeWithinMs), takeWithinMs);
      const sent = this.#request ?? this.#begin({ "content-length": Buffer.byteLength(body) });
      sent.end(body);
    });
  }

  #begin(framing: OutgoingHttpHeaders): ClientRequest {
    const sent = request({
      // Without an agent: one that is given, false too, would connect by itself.
      createConnection: () => this.#options.connect(),
      method: "POST",
      path: assignPath,
      headers: { host: "runtime", "content-type": "application/json", ...framing },
      maxHeaderSize: sandboxLimits.controlLineBytes,
    });
    this.#request = sent;
    const lost = (): void => {
      this.#lost = true;
      this.#answer(null);
    };
    sent.on("error", lost);
    sent.on("close", lost);
    sent.on("response", (response) => this.#read(response));
    return sent;
  }

  /** After whatever lies in the socket already: a main thread that was held up has not read it yet. */
  #tooLate(takeWithinMs: number): void {
    setImmediate(() => {
      if (!this.#taken) this.#answer(nonsense(`took no code within ${takeWithinMs} ms`));
    });
  }

  #read(response: IncomingMessage): void {
    // Nothing was asked yet: one like that is of no use.
    if (this.#answered === null) return this.close();
    if (response.statusCode !== 200) {
      response.resume();
      this.#answer(nonsense(`answered ${response.statusCode} when it was told what to run`));
      return;
    }
    this.#taken = true;
    clearTimeout(this.#late);
    let held = "";
    response.setEncoding("utf8");
    response.on("error", () => {});
    response.on("close", () => this.#said.resolve());
    response.on("data", (text: string) => {
      const lines = (held + text).split("\n");
      this.#spend(response, lines.length + (held.length + text.length) / unitBytes);
      held = lines.pop()!;
      if (held.length > sandboxLimits.controlLineBytes) {
        this.#answer(nonsense("sent a control line that is too long"));
        this.close();
        return;
      }
      for (const line of lines) if (line !== "") this.#hear(line);
    });
  }

  /** User code shares the process that speaks here, and may write as fast as it can: it must not have the main thread to itself. */
  #spend(response: IncomingMessage, units: number): void {
    const nowMs = performance.now();
    const earned = ((nowMs - this.#refilledMs) / 1_000) * controlUnitsPerSecond;
    this.#refilledMs = nowMs;
    this.#units = Math.min(controlUnitsBurst, this.#units + earned) - units;
    if (this.#units >= 0 || this.#waiting !== undefined) return;
    response.pause();
    this.#waiting = setTimeout(
      () => {
        this.#waiting = undefined;
        response.resume();
      },
      (-this.#units / controlUnitsPerSecond) * 1_000,
    );
  }

  #hear(line: string): void {
    let said: unknown;
    try {
      if (line.length > sandboxLimits.controlLineBytes) throw new RangeError("too long");
      said = JSON.parse(line);
    } catch {
      said = null;
    }
    if (this.#answered) this.#answer(readAnswer(said));
    else if (isRecord(said) && typeof said["done"] === "string" && isInvocationId(said["done"]))
      this.#options.done(said["done"]);
    else if (isRecord(said) && typeof said["cache"] === "string") this.#take(said["cache"]);
    // Anything else: a later version's word, or noise. Neither can hurt.
  }

  #take(piece: string): void {
    if (this.#pieces === null) return;
    const bytes = Buffer.from(piece, "base64");
    this.#piecesBytes += bytes.length;
    if (this.#piecesBytes <= loadCacheLimits.packedBytes) return void this.#pieces.push(bytes);
    this.#pieces = null;
    this.#said.resolve();
  }

  /**
   * The compiled code that a check has told by its end; null: none, too much, or not in time. What the start has taken (`spentMs`) and
   * this together are no longer than a start may take: whoever has loaded does not fail by it.
   */
  async loadCache(spentMs = 0): Promise<Uint8Array | null> {
    const leftMs = sandboxLimits.startMs - tellMs - spentMs;
    const late = setTimeout(
      () => {
        this.#pieces = null;
        this.#said.resolve();
      },
      Math.max(0, Math.min(loadCacheLimits.tellMs, leftMs)),
    );
    await this.#said.promise;
    clearTimeout(late);
    this.#hearsOut = false;
    this.close();
    return this.#pieces === null || this.#piecesBytes === 0 ? null : Buffer.concat(this.#pieces);
  }

  #answer(answer: Ready | Failed | null): void {
    const answered = this.#answered;
    this.#answered = null;
    if (answer?.ok !== true) this.#hearsOut = false;
    answered?.(answer);
  }

  /** Lets go of the connection; an assign that still waits answers null. */
  close(): void {
    // Its last words may still lie in the socket of a process that is gone.
    if (this.#hearsOut && this.#taken && this.#answered === null) return;
    clearTimeout(this.#waiting);
    clearTimeout(this.#late);
    this.#request?.destroy();
  }
}

/** Exported for tests: a runtime's first line. */
export function readAnswer(said: unknown): Ready | Failed {
  if (!isRecord(said)) return nonsense("answered something that is not JSON");
  const { ready, failed } = said;
  if (isRecord(failed)) return { ok: false, failure: readFailure(failed) };
  if (!isRecord(ready)) return nonsense("answered neither ready nor failed");
  const { entry = null, handler = null, signature, done, shares = false, phases = {} } = ready;
  if (!isShortOrNull(entry) || !isShortOrNull(handler)) return nonsense("answered ready with a wrong entry or handler");
  const known = signatures.find((name) => name === signature);
  if (known === undefined) return nonsense("answered ready with an unknown signature");
  if (done !== "response" && done !== "told") return nonsense("answered ready with an unknown kind of done");
  if (typeof shares !== "boolean") return nonsense("answered ready without saying whether it shares a connection");
  // By frames nobody hears that a response has ended where that is all that there is of an end.
  const told = done === "told";
  return { ok: true, entry, handler, signature: known, done, shares: shares && told, phases: readPhases(phases) };
}

function readFailure(failed: Record<string, unknown>): Failure {
  const message = textOf(failed["message"], messageChars) ?? "it failed to load and did not say why";
  const file = textOf(failed["file"], textChars);
  const line = numberOf(failed["line"]);
  const column = numberOf(failed["column"]);
  const place =
    file === null ? null : line === null ? file : column === null ? `${file}:${line}` : `${file}:${line}:${column}`;
  return {
    fault: "function",
    message: place === null || message.includes(`${file}:${line}`) ? message : `${message} (${place})`,
    stack: textOf(failed["stack"], stackChars),
    hint: textOf(failed["hint"], messageChars),
  };
}

function readPhases(said: unknown): Record<string, number> {
  const phases: Record<string, number> = {};
  if (!isRecord(said)) return phases;
  for (const [name, ms] of Object.entries(said).slice(0, phasesCount))
    if (/^[a-z][a-zA-Z0-9]{0,31}$/.test(name) && typeof ms === "number" && ms >= 0 && ms <= sandboxLimits.startMs)
      phases[name] = ms;
  return phases;
}

function nonsense(what: string): Failed {
  return { ok: false, failure: { fault: "function", message: `The runtime ${what}.`, stack: null, hint: null } };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Shown in terminals and kept with the revision: one line of what can be seen. */
function isShortOrNull(value: unknown): value is string | null {
  if (value === null) return true;
  return typeof value === "string" && value.length <= textChars && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(value);
}

function textOf(value: unknown, chars: number): string | null {
  return typeof value === "string" && value !== "" ? value.slice(0, chars) : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : null;
}
