// What Vercel adds to node:http's request and response, for handlers that count on it: query, cookies, body, status, json, send.

// Not by import: that would run the getters of everything node:http exports, and load fetch with it.
const http = process.getBuiltinModule("node:http");

/** @import { IncomingMessage as Incoming } from "node:http" */

/** Whole bodies that were short enough to wait for. @type {WeakMap<Incoming, Buffer>} */
export const bufferedBodies = new WeakMap();

/** @param {Incoming} request @param {Buffer | undefined} buffered @returns {unknown} as its type says; undefined: there is none, or it streams */
function parsedBody(request, buffered) {
  if (buffered === undefined) return undefined;
  const type = (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  if (type === "application/json" || type.endsWith("+json")) {
    try {
      return buffered.length === 0 ? {} : JSON.parse(buffered.toString());
    } catch (cause) {
      throw Object.assign(new Error("the request's body is not JSON", { cause }), { statusCode: 400 });
    }
  }
  if (type === "application/x-www-form-urlencoded") return Object.fromEntries(new URLSearchParams(buffered.toString()));
  if (type.startsWith("text/")) return buffered.toString();
  return buffered;
}

/** @param {Incoming} request @returns {Record<string, string | string[]>} */
function parsedQuery(request) {
  const url = request.url ?? "";
  const mark = url.indexOf("?");
  /** @type {Record<string, string | string[]>} */
  const query = {};
  if (mark < 0) return query;
  const parameters = new URLSearchParams(url.slice(mark + 1));
  for (const name of new Set(parameters.keys())) {
    const values = parameters.getAll(name);
    Object.defineProperty(query, name, {
      value: values.length > 1 ? values : values[0],
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
  return query;
}

/** @param {Incoming} request @returns {Record<string, string>} */
function parsedCookies(request) {
  /** @type {Record<string, string>} */
  const cookies = {};
  for (const part of (request.headers.cookie ?? "").split(";")) {
    const equals = part.indexOf("=");
    if (equals < 1) continue;
    const name = part.slice(0, equals).trim();
    const text = part
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, "$1");
    let value = text;
    try {
      value = decodeURIComponent(text);
    } catch {} // as it was written
    if (!Object.hasOwn(cookies, name))
      Object.defineProperty(cookies, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return cookies;
}

/** A member that is made when it is first asked for, and may be overwritten (Express does). @param {object} of @param {string} name @param {(self: any) => unknown} make */
function lazy(of, name, make) {
  Object.defineProperty(of, name, {
    configurable: true,
    enumerable: false,
    get() {
      const value = make(this);
      Object.defineProperty(this, name, { value, writable: true, configurable: true, enumerable: true });
      return value;
    },
    set(value) {
      Object.defineProperty(this, name, { value, writable: true, configurable: true, enumerable: true });
    },
  });
}

/** A framework that brings members of its own (Express) replaces these with its prototype. */
export class NodeRequest extends http.IncomingMessage {}
lazy(NodeRequest.prototype, "query", parsedQuery);
lazy(NodeRequest.prototype, "cookies", parsedCookies);
lazy(NodeRequest.prototype, "body", (request) => parsedBody(request, bufferedBodies.get(request)));

export class NodeResponse extends http.ServerResponse {
  /** @param {number} status */
  status(status) {
    this.statusCode = status;
    return this;
  }

  /** @param {unknown} value */
  json(value) {
    this.#typed("application/json; charset=utf-8").end(JSON.stringify(value));
    return this;
  }

  /** @param {unknown} value */
  send(value) {
    if (value === undefined || value === null) this.end();
    else if (value instanceof Uint8Array) this.#typed("application/octet-stream").end(value);
    else if (typeof value === "object") this.json(value);
    else this.#typed("text/html; charset=utf-8").end(`${/** @type {string} */ (value)}`);
    return this;
  }

  /** @param {number | string} statusOrUrl @param {string} [url] */
  redirect(statusOrUrl, url) {
    const [status, location] = url === undefined ? [307, String(statusOrUrl)] : [Number(statusOrUrl), url];
    this.writeHead(status, { location }).end();
    return this;
  }

  /** @param {string} type unless the handler has said one */
  #typed(type) {
    if (!this.hasHeader("content-type")) this.setHeader("content-type", type);
    return this;
  }
}
