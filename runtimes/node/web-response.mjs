// Response: text or bytes, a status and headers, ready to be written in one piece; or a stream.

import { Headers } from "./web-headers.mjs";
import { LightBody, contentOf } from "./web-body.mjs";

/** @typedef {{ status?: unknown, statusText?: string, headers?: unknown }} ResponseOptions */

const nullStatuses = new Set([204, 205, 304]);
const redirects = new Set([301, 302, 303, 307, 308]);

/** @param {ResponseOptions | null | undefined} init */
function statusOf(init) {
  const status = init?.status === undefined ? 200 : Number(init.status);
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new RangeError('init["status"] must be in the range of 200 to 599, inclusive.');
  return status;
}

export class Response extends LightBody {
  #status = 200;
  #statusText = "";
  #type = "default";
  /** @type {Headers | null} */
  #headers = null;

  /** @param {unknown} [body] @param {ResponseOptions | null} [init] */
  constructor(body, init) {
    super();
    this.#status = statusOf(init);
    if (init?.statusText !== undefined) this.#statusText = init.statusText;
    if (init?.headers !== undefined) this.#headers = new Headers(init.headers);
    if (body === undefined || body === null) return;
    if (nullStatuses.has(this.#status))
      throw new TypeError(`Response constructor: Invalid response status code ${this.#status}`);
    const { content, type } = contentOf(body);
    LightBody.give(this, content);
    if (type !== null && this.#headers?.has("content-type") !== true) this.headers.append("content-type", type);
  }

  /** @param {unknown} data @param {ResponseOptions} [init] */
  static json(data, init) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Response.json: the value cannot be written as JSON");
    const headers = new Headers(init?.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(text, { ...init, headers });
  }

  /** @param {string | URL} url @param {number} [status] */
  static redirect(url, status = 302) {
    if (!redirects.has(status)) throw new RangeError(`Invalid status code ${status}`);
    return new Response(null, { status, headers: { location: new URL(String(url)).href } });
  }

  static error() {
    const response = new Response(null);
    response.#type = "error";
    response.#status = 0;
    return response;
  }

  get status() {
    return this.#status;
  }

  get statusText() {
    return this.#statusText;
  }

  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }

  get type() {
    return this.#type;
  }

  get url() {
    return "";
  }

  get redirected() {
    return false;
  }

  /** @override */
  get headers() {
    return (this.#headers ??= new Headers());
  }

  clone() {
    const copy = new Response(null, { status: this.#status, statusText: this.#statusText, headers: this.headers });
    LightBody.share(this, copy);
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Response";
  }

  /** Also what Node's own fetch answers. @override @param {unknown} value */
  static [Symbol.hasInstance](value) {
    if (typeof value !== "object" || value === null) return false;
    if (Object.prototype.isPrototypeOf.call(this.prototype, value)) return true;
    return this === Response && Object.prototype.toString.call(value) === "[object Response]";
  }

  [Symbol.for("nodejs.util.inspect.custom")]() {
    return { status: this.#status, headers: this.headers };
  }
}
