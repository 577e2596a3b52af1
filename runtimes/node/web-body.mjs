// What Request and Response have in common: a body that is text, bytes or a stream. Whole of our own: touching Node's
// classes loads its fetch, which costs more than the rest of a cold start together.

import { Headers } from "./web-headers.mjs";

/** @typedef {string | Uint8Array | ReadableStream | null} Content */
/** A body that is still in its connection. @typedef {{ whole(): Uint8Array | Promise<Uint8Array>, stream(): ReadableStream }} Source */

const { Readable } = process.getBuiltinModule("node:stream");

/** Without asking for the class, which Node loads at its first mention. @param {Content} content @returns {content is ReadableStream} */
export const isStream = (content) =>
  typeof content === "object" && content !== null && !(content instanceof Uint8Array);
/** @param {ReadableStream} stream somebody has read from it */
const isDisturbed = (stream) => Readable.isDisturbed(/** @type {any} */ (stream));
const used = () => new TypeError("Body is unusable: Body has already been read");

/**
 * The parts that a value is made of when it becomes a body, and the type that it brings.
 * @param {unknown} value @returns {{ content: Content, type: string | null }}
 */
export function contentOf(value) {
  if (value === undefined || value === null) return { content: null, type: null };
  if (typeof value === "string") return { content: value, type: "text/plain;charset=UTF-8" };
  // Bytes are copied, as the standard asks: the function may go on writing into its own.
  if (ArrayBuffer.isView(value))
    return { content: new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice(), type: null };
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer)
    return { content: new Uint8Array(value).slice(), type: null };
  if (value instanceof ReadableStream) {
    if (value.locked || isDisturbed(value)) throw new TypeError("the body's stream is locked or has been read");
    return { content: value, type: null };
  }
  if (value instanceof URLSearchParams)
    return { content: String(value), type: "application/x-www-form-urlencoded;charset=UTF-8" };
  if (value instanceof Blob) return { content: value.stream(), type: value.type === "" ? null : value.type };
  if (Object.prototype.toString.call(value) === "[object FormData]")
    return formContent(/** @type {FormData} */ (value));
  if (typeof value === "object" && Symbol.asyncIterator in value)
    return { content: ReadableStream.from(/** @type {AsyncIterable<unknown>} */ (value)), type: null };
  // As the standard converts whatever else there is: by its toString.
  return { content: `${/** @type {string} */ (value)}`, type: "text/plain;charset=UTF-8" };
}

/** multipart/form-data, as browsers write it. @param {FormData} form */
function formContent(form) {
  const boundary = `----ebb${crypto.randomUUID()}`;
  const escape = (/** @type {string} */ text) =>
    text.replaceAll("\n", "%0A").replaceAll("\r", "%0D").replaceAll('"', "%22");
  /** @type {(string | Blob)[]} */
  const parts = [];
  for (const [name, value] of form) {
    const file =
      typeof value === "string"
        ? ""
        : `; filename="${escape(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}`;
    parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="${escape(name)}"${file}\r\n\r\n`, value, "\r\n");
  }
  parts.push(`--${boundary}--\r\n`);
  return { content: new Blob(parts).stream(), type: `multipart/form-data; boundary=${boundary}` };
}

export class LightBody {
  /** @type {Content} */
  #content = null;
  /** @type {Source | null} */
  #source = null;
  #used = false;

  /** @param {LightBody} body @param {Content} content */
  static give(body, content) {
    body.#content = content;
  }

  /** @param {LightBody} body @param {Source} source */
  static giveSource(body, source) {
    body.#source = source;
  }

  /** Takes the body in order to send it on; throws where it has been read. @param {LightBody} body @returns {Content} */
  static take(body) {
    if (body.bodyUsed) throw used();
    const content = body.#source === null ? body.#content : body.#asStream();
    if (content !== null) body.#used = true;
    return content;
  }

  /** @param {LightBody} from @param {LightBody} to both can be read from here on */
  static share(from, to) {
    if (from.bodyUsed) throw used();
    const content = from.#source === null ? from.#content : from.#asStream();
    if (!isStream(content)) {
      to.#content = content;
      return;
    }
    [from.#content, to.#content] = content.tee();
  }

  /** From here on it is a stream, and nothing else. @returns {ReadableStream | null} */
  #asStream() {
    if (this.#source !== null) {
      this.#content = this.#source.stream();
      this.#source = null;
    }
    const content = this.#content;
    if (content === null || isStream(content)) return content;
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const stream = new ReadableStream({
      type: "bytes",
      start(controller) {
        if (bytes.byteLength > 0) controller.enqueue(/** @type {Uint8Array<ArrayBuffer>} */ (bytes));
        controller.close();
      },
    });
    this.#content = stream;
    return stream;
  }

  /** @returns {Promise<Uint8Array>} */
  async #bytes() {
    const content = this.#content;
    if (this.bodyUsed) throw used();
    // No body at all can be read as often as one likes.
    if (content === null && this.#source === null) return new Uint8Array();
    this.#used = true;
    if (this.#source !== null) return this.#source.whole();
    if (typeof content === "string") return new TextEncoder().encode(content);
    if (content instanceof Uint8Array) return content;
    const parts = [];
    for await (const part of /** @type {ReadableStream} */ (content)) {
      if (!(part instanceof Uint8Array)) throw new TypeError("Received non-Uint8Array chunk");
      parts.push(part);
    }
    return Buffer.concat(parts);
  }

  get headers() {
    return new Headers();
  }

  get body() {
    return this.#asStream();
  }

  get bodyUsed() {
    return this.#used || (isStream(this.#content) && isDisturbed(this.#content));
  }

  async text() {
    // The one that is asked for most: what is text already need not become bytes.
    if (typeof this.#content === "string" && !this.#used) {
      this.#used = true;
      return this.#content;
    }
    return new TextDecoder().decode(await this.#bytes());
  }

  /** @returns {Promise<any>} */
  async json() {
    return JSON.parse(await this.text());
  }

  async arrayBuffer() {
    return (await this.bytes()).buffer;
  }

  /** A copy of its own: what it came in may be a piece of a shared pool. */
  async bytes() {
    return Uint8Array.from(await this.#bytes());
  }

  async blob() {
    return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" });
  }

  /** Parsed by Node's own Response, which only its fetch can be had from without being asked for by name. */
  async formData() {
    const bytes = await this.bytes();
    const Native = /** @type {typeof globalThis.Response} */ ((await nativeFetch("data:,")).constructor);
    return new Native(bytes, { headers: { "content-type": this.headers.get("content-type") ?? "" } }).formData();
  }
}

/** Node's; loads itself at its first call. */
export const nativeFetch = globalThis.fetch;
