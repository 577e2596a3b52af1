// Headers as the Fetch standard has them, without loading Node's own fetch (27 ms at a cold start, and slow for each request).

/** @typedef {import("./http1.mjs").FlatHeaders} FlatHeaders */
/** @typedef {{ name: string, value: string }} Field */

const nameSyntax = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// eslint-disable-next-line no-control-regex
const valueSyntax = /^[^\0\r\n\u0100-\uffff]*$/;

/** Whether Node's own class is loaded does not matter: only an object of it can be one. @param {unknown} value @param {string} tag */
export function isTagged(value, tag) {
  return typeof value === "object" && value !== null && Object.prototype.toString.call(value) === `[object ${tag}]`;
}

/** @param {unknown} name */
function checkedName(name) {
  const text = String(name);
  if (!nameSyntax.test(text)) throw new TypeError(`Headers: ${JSON.stringify(text)} is an invalid header name.`);
  return text.toLowerCase();
}

/** @param {unknown} value */
function checkedValue(value) {
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (!valueSyntax.test(text)) throw new TypeError(`Headers: ${JSON.stringify(text)} is an invalid header value.`);
  return text;
}

export class Headers {
  /** Names in lower case; a repeated name repeats. @type {FlatHeaders} */
  #flat = [];

  /** @param {unknown} [init] */
  constructor(init) {
    if (init === undefined) return;
    if (typeof init !== "object" || init === null)
      throw new TypeError("Headers: the argument is not an object or a sequence.");
    if (init instanceof Headers && #flat in init) this.#flat = [...init.#flat];
    else if (typeof (/** @type {Iterable<unknown>} */ (init)[Symbol.iterator]) === "function") {
      for (const pair of /** @type {Iterable<Iterable<unknown>>} */ (init)) {
        const [name, value, ...more] = [...pair];
        if (value === undefined || more.length > 0) throw new TypeError("Headers: each entry is a name and a value.");
        this.append(name, value);
      }
    } else
      for (const name of Reflect.ownKeys(init))
        if (Object.getOwnPropertyDescriptor(init, name)?.enumerable) this.append(name, Reflect.get(init, name));
  }

  /** What a request came with: checked by the parser already, and owned from here on. @param {FlatHeaders} flat @returns {Headers} */
  static adopt(flat) {
    const headers = new Headers();
    headers.#flat = flat;
    return headers;
  }

  /** For the answer's head; not a copy. @param {Headers} headers @returns {FlatHeaders} */
  static flatOf(headers) {
    return headers.#flat;
  }

  /** @param {unknown} name @param {unknown} value */
  append(name, value) {
    this.#flat.push(checkedName(name), checkedValue(value));
  }

  /** @param {unknown} name */
  delete(name) {
    const wanted = checkedName(name);
    // Whether a value stays is said by the name before it.
    this.#flat = this.#flat.filter((_, at, all) => all[at - (at % 2)] !== wanted);
  }

  /** @param {unknown} name @returns {string | null} */
  get(name) {
    const wanted = checkedName(name);
    let found = null;
    for (let i = 0; i < this.#flat.length; i += 2) {
      if (this.#flat[i] !== wanted) continue;
      const value = /** @type {string} */ (this.#flat[i + 1]);
      found = found === null ? value : `${found}${wanted === "cookie" ? "; " : ", "}${value}`;
    }
    return found;
  }

  /** @param {unknown} name */
  has(name) {
    const wanted = checkedName(name);
    for (let i = 0; i < this.#flat.length; i += 2) if (this.#flat[i] === wanted) return true;
    return false;
  }

  /** Takes the place of the first of that name. @param {unknown} name @param {unknown} value */
  set(name, value) {
    const wanted = checkedName(name);
    const text = checkedValue(value);
    const first = this.#flat.findIndex((name, at) => at % 2 === 0 && name === wanted);
    const others = (/** @type {FlatHeaders} */ flat) => flat.filter((_, at, all) => all[at - (at % 2)] !== wanted);
    if (first < 0) this.#flat.push(wanted, text);
    else this.#flat = [...this.#flat.slice(0, first), wanted, text, ...others(this.#flat.slice(first))];
  }

  getSetCookie() {
    return this.#flat.filter((_, at, all) => at % 2 === 1 && all[at - 1] === "set-cookie");
  }

  /** Sorted by name; the same name joined, but each set-cookie apart. @returns {[string, string][]} */
  #sorted() {
    const names = new Set(this.#flat.filter((_, at) => at % 2 === 0));
    // By code units, as the standard sorts.
    return [...names]
      .toSorted((a, b) => (a < b ? -1 : 1))
      .flatMap((name) =>
        name === "set-cookie"
          ? this.getSetCookie().map((value) => /** @type {[string, string]} */ ([name, value]))
          : [/** @type {[string, string]} */ ([name, this.get(name)])],
      );
  }

  /** @param {(value: string, name: string, headers: Headers) => void} call @param {unknown} [self] */
  forEach(call, self) {
    for (const [name, value] of this.#sorted()) call.call(self, value, name, this);
  }

  *entries() {
    yield* this.#sorted();
  }

  *keys() {
    for (const [name] of this.#sorted()) yield name;
  }

  *values() {
    for (const [, value] of this.#sorted()) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  get [Symbol.toStringTag]() {
    return "Headers";
  }

  /** Also what Node's own fetch makes. @param {unknown} value */
  static [Symbol.hasInstance](value) {
    if (typeof value !== "object" || value === null) return false;
    return (
      Object.prototype.isPrototypeOf.call(this.prototype, value) || (this === Headers && isTagged(value, "Headers"))
    );
  }

  [Symbol.for("nodejs.util.inspect.custom")]() {
    return Object.fromEntries(this.#sorted());
  }
}
