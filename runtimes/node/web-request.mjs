// Request: method, url, headers and body straight from the parsed head; what a function makes for itself is the same class.

import { Headers } from "./web-headers.mjs";
import { LightBody, contentOf, isStream, nativeFetch } from "./web-body.mjs";

/** @import { Exchange } from "./http1.mjs" */
/** @import { Invocation } from "./invocation.mjs" */

/** Says that the constructor gets an exchange; nobody else can say so. */
const incoming = Symbol("incoming");
/** Of a Request's options, those that only fetch cares for. */
const fetchOptions = [
  "cache",
  "credentials",
  "dispatcher",
  "integrity",
  "keepalive",
  "mode",
  "redirect",
  "referrer",
  "referrerPolicy",
];
const methodsInCapitals = new Set(["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]);
const methodSyntax = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** A URL that the parser would leave as it is. */
const plainUrl =
  /^https?:\/\/[a-z][a-z0-9.-]*(?::(?!80\/|443\/)[1-9]\d*)?\/(?:[\w\-~!$&'()*+,;=:@]+\/)*[\w\-~!$&()*+,;=:@]*(?:\?[\w\-/~!$&()*+,;=:@?.%]*)?$/;

export class Request extends LightBody {
  #method = "GET";
  #url = "";
  /** @type {Headers | null} */
  #headers = null;
  /** @type {AbortSignal | null} */
  #signal = null;
  /** @type {Record<string, unknown>} */
  #options = {};
  /** @type {Exchange | null} */
  #exchange = null;
  /** @type {Invocation | null} */
  #invocation = null;

  /** @param {unknown} input @param {any} [init] */
  constructor(input, init) {
    super();
    if (init === incoming) {
      const { exchange, invocation } = /** @type {{ exchange: Exchange, invocation: Invocation }} */ (input);
      this.#exchange = exchange;
      this.#invocation = invocation;
      this.#method = exchange.method;
      if (!exchange.body.complete || exchange.body.heldLength > 0)
        LightBody.giveSource(this, {
          whole: () => exchange.body.all(Number.MAX_SAFE_INTEGER),
          stream: () => streamOf(exchange),
        });
      return;
    }
    const from = input instanceof Request ? input : null;
    this.#url = from === null ? new URL(String(input)).href : from.url;
    this.#method = checkedMethod(init?.method ?? from?.method ?? "GET");
    this.#headers = new Headers(init?.headers ?? from?.headers);
    this.#signal = init?.signal ?? from?.signal ?? null;
    for (const name of fetchOptions) {
      const value = init?.[name] ?? (from !== null && #options in from ? from.#options[name] : undefined);
      if (value !== undefined) this.#options[name] = value;
    }
    const bodyless = this.#method === "GET" || this.#method === "HEAD";
    const given = init?.body ?? null;
    if (given !== null && bodyless) throw new TypeError("Request with GET/HEAD method cannot have body.");
    const { content, type } =
      given === null && from !== null ? { content: takeFrom(from), type: null } : contentOf(given);
    LightBody.give(this, content);
    if (type !== null && !this.#headers.has("content-type")) this.#headers.append("content-type", type);
  }

  /** @param {Exchange} exchange @param {Invocation} invocation @returns {Request} */
  static from(exchange, invocation) {
    return new Request({ exchange, invocation }, incoming);
  }

  /** As fetch takes it. @param {Request} request @param {Record<string, unknown>} [init] */
  static fetch(request, init) {
    const body = LightBody.take(request);
    const options = {
      ...request.#options,
      method: request.method,
      headers: [...request.headers],
      body,
      signal: request.#signal ?? request.#invocation?.signal,
      ...(isStream(body) ? { duplex: "half" } : undefined),
      ...init,
    };
    return nativeFetch(request.url, /** @type {any} */ (options));
  }

  get method() {
    return this.#method;
  }

  get url() {
    if (this.#url === "" && this.#exchange !== null) {
      const { target } = this.#exchange;
      const scheme = this.#exchange.header("x-forwarded-proto") === "https" ? "https" : "http";
      const text = `${scheme}://${this.#exchange.header("host") ?? "localhost"}${target.startsWith("/") ? target : "/"}`;
      this.#url = plainUrl.test(text) ? text : new URL(text).href;
    }
    return this.#url;
  }

  /** @override */
  get headers() {
    return (this.#headers ??= Headers.adopt(/** @type {Exchange} */ (this.#exchange).headers));
  }

  get signal() {
    return (this.#signal ??= this.#invocation?.signal ?? new AbortController().signal);
  }

  clone() {
    const copy = new Request(this.url, {
      method: this.#method,
      headers: this.headers,
      signal: this.signal,
      ...this.#options,
    });
    LightBody.share(this, copy);
    return copy;
  }

  get [Symbol.toStringTag]() {
    return "Request";
  }

  /** Also Node's own. @override @param {unknown} value */
  static [Symbol.hasInstance](value) {
    if (typeof value !== "object" || value === null) return false;
    if (Object.prototype.isPrototypeOf.call(this.prototype, value)) return true;
    return this === Request && Object.prototype.toString.call(value) === "[object Request]";
  }

  [Symbol.for("nodejs.util.inspect.custom")]() {
    return { method: this.method, url: this.url, headers: this.headers };
  }
}

const optionDefaults = Object.entries({
  cache: "default",
  credentials: "same-origin",
  destination: "",
  duplex: "half",
  integrity: "",
  keepalive: false,
  mode: "cors",
  redirect: "follow",
  referrer: "about:client",
  referrerPolicy: "",
});
for (const [name, value] of optionDefaults)
  Object.defineProperty(Request.prototype, name, { configurable: true, enumerable: true, get: () => value });

/** @param {Request} from ours, or Node's own @returns {import("./web-body.mjs").Content} */
function takeFrom(from) {
  if (/** @type {unknown} */ (from) instanceof LightBody) return LightBody.take(from);
  return from.body;
}

/** @param {unknown} method */
function checkedMethod(method) {
  const text = String(method);
  if (!methodSyntax.test(text)) throw new TypeError(`'${text}' is not a valid HTTP method.`);
  const capitals = text.toUpperCase();
  return methodsInCapitals.has(capitals) ? capitals : text;
}

/** The body as it arrives, with back-pressure: what is not read stays in the socket. @param {Exchange} exchange @returns {ReadableStream<Uint8Array>} */
function streamOf(exchange) {
  const { body } = exchange;
  let started = false;
  let over = false;
  return new ReadableStream(
    {
      type: "bytes",
      pull(controller) {
        if (started) return body.resume();
        started = true;
        return body.read({
          data(chunk) {
            if (over) return true;
            controller.enqueue(new Uint8Array(chunk));
            return (controller.desiredSize ?? 0) > 0;
          },
          end() {
            if (over) return;
            over = true;
            controller.close();
            controller.byobRequest?.respond(0);
          },
          failed(error) {
            if (!over) controller.error(error);
            over = true;
          },
        });
      },
      cancel() {
        over = true;
      },
    },
    { highWaterMark: 64 * 1024 },
  );
}
