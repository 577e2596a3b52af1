// What a loaded module is: which of its exports handles, and in which shape. INTERFACE.md, "Handlers", in code; no I/O.

import { parametersOf } from "./parameters.mjs";

/** @typedef {"web" | "event" | "node"} Shape */
/** @typedef {(...values: any[]) => unknown} Callable */
/**
 * `methods`: web by method; the handler then is the object that holds GET, POST, …
 * @typedef {{ shape: Shape, handler: string | null, call: Callable, owner: unknown, methods: Record<string, Callable> | null }} Recognised
 */
/** @typedef {{ refused: string, hint: string | null }} Refused */

const eventNames = ["handle", "handler", "lambda_handler"];
const methodNames = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const responseNames = new Set(["res", "response", "reply"]);
const eventParameters = new Set(["event", "input"]);
const requestParameters = new Set(["request", "req"]);
const shapeHint = "Say which with signature: web, event or node in ebb.yaml.";

/** @param {unknown} value @returns {value is Callable} */
function isCallable(value) {
  return typeof value === "function" && !/^class\b/.test(Function.prototype.toString.call(value));
}

/** @param {unknown} value @returns {Record<string, unknown> | null} */
function membersOf(value) {
  const holds = (typeof value === "object" && value !== null) || typeof value === "function";
  return holds ? /** @type {Record<string, unknown>} */ (value) : null;
}

/** @param {unknown} owner @param {string} name @returns {unknown} a getter of the user's may throw: as if it were not there */
function member(owner, name) {
  try {
    return membersOf(owner)?.[name];
  } catch {
    return undefined;
  }
}

/** A path of export names, as `default.fetch`. @param {unknown} root @param {string} path */
function follow(root, path) {
  let owner = /** @type {unknown} */ (undefined);
  let value = root;
  for (const name of path.split(".")) {
    owner = value;
    value = member(value, name);
  }
  return { owner, value };
}

/** The shape that a function's parameters tell; null: they do not. @param {Callable} call @returns {Shape | null} */
function shapeOfParameters(call) {
  const names = parametersOf(call);
  const [first, second] = names;
  if (second !== undefined && responseNames.has(second)) return "node";
  if (first !== undefined && eventParameters.has(first)) return "event";
  if (first !== undefined && requestParameters.has(first)) return "web";
  return null;
}

/** @param {unknown} owner @returns {Record<string, Callable> | null} */
function methodsOf(owner) {
  /** @type {Record<string, Callable>} */
  const methods = {};
  for (const name of methodNames) {
    const value = member(owner, name);
    if (isCallable(value)) methods[name] = value;
  }
  return Object.keys(methods).length > 0 ? methods : null;
}

/**
 * @param {unknown} module its namespace
 * @param {{ handler: string | null, signature: Shape | null, listens: boolean }} wanted
 * @returns {Recognised | Refused | null} null: it exports nothing that handles
 */
export function recognise(module, wanted) {
  if (wanted.handler !== null) return named(module, wanted.handler, wanted.signature);
  let prefix = "";
  let container = module;
  for (let depth = 0; depth < 3; depth++) {
    const found = inContainer(container, prefix, wanted.signature, wanted.listens);
    if (found !== null) return found;
    container = member(container, "default");
    if (membersOf(container) === null) break;
    prefix += "default.";
  }
  return null;
}

/** @param {unknown} container @param {string} prefix @param {Shape | null} signature @param {boolean} listens */
function inContainer(container, prefix, signature, listens) {
  /** @param {Shape} shape @param {string} name @param {Callable} call @returns {Recognised} */
  const found = (shape, name, call) => ({
    shape: signature ?? shape,
    handler: prefix + name,
    call,
    owner: container,
    methods: null,
  });
  const path = prefix.slice(0, -1);
  const fetch = member(container, "fetch");
  if (isCallable(fetch)) return found("web", "fetch", fetch);
  const itself = prefix !== "" && isCallable(container) ? container : null;
  // An Express application is a function (req, res, next) that has a property `handle`, which is not an event handler.
  if (itself !== null && shapeOfParameters(itself) === "node") return listens ? null : bare(itself, path, signature);
  for (const name of eventNames) {
    const value = member(container, name);
    if (isCallable(value)) return found("event", name, value);
  }
  const methods = methodsOf(container);
  if (methods !== null && (signature ?? "web") === "web") {
    /** @type {Callable} */
    const call = () => undefined;
    return /** @type {Recognised} */ ({ shape: "web", handler: null, call, owner: container, methods });
  }
  if (itself === null || listens) return null;
  return bare(itself, path, signature);
}

/** A function that its module exports as such. @param {Callable} call @param {string} path @param {Shape | null} signature @returns {Recognised | Refused} */
function bare(call, path, signature) {
  const count = parametersOf(call).length;
  const told = shapeOfParameters(call);
  const shape = signature ?? (count <= 1 ? "web" : told);
  if (shape !== null) return { shape, handler: path, call, owner: undefined, methods: null };
  const names = parametersOf(call).join(", ");
  return { refused: `cannot tell what the exported function (${names}) is`, hint: shapeHint };
}

/** The handler that its author named. @param {unknown} module @param {string} path @param {Shape | null} signature @returns {Recognised | Refused} */
function named(module, path, signature) {
  for (const prefix of ["", "default.", "default.default."]) {
    const { owner, value } = follow(module, prefix + path);
    if (!isCallable(value)) continue;
    const handler = prefix + path;
    const name = /** @type {string} */ (path.split(".").at(-1));
    // `default` as a whole is held to the rule of exported functions.
    if (/^(?:default\.)*default$/.test(handler)) return bare(value, handler, signature);
    const told =
      name === "fetch"
        ? "web"
        : eventNames.includes(name)
          ? "event"
          : methodNames.includes(name)
            ? "web"
            : shapeOfParameters(value);
    const shape = signature ?? told;
    if (shape !== null) return { shape, handler, call: value, owner, methods: null };
    return { refused: `cannot tell what ${path}(${parametersOf(value).join(", ")}) is`, hint: shapeHint };
  }
  const exported = exportsOf(module);
  return {
    refused: `there is no exported function ${JSON.stringify(path)}`,
    hint: exported === "" ? "The module exports nothing." : `It exports: ${exported}.`,
  };
}

/** What a module exports, for a message. @param {unknown} module @returns {string} */
export function exportsOf(module) {
  const names = Object.keys(membersOf(module) ?? {});
  const inner = Object.keys(membersOf(member(module, "default")) ?? {});
  const all =
    names.includes("default") && inner.length > 0
      ? [...new Set([...names.filter((name) => name !== "default"), ...inner])]
      : names;
  return all
    .filter((name) => name !== "module.exports" && name !== "__esModule")
    .slice(0, 12)
    .join(", ");
}
