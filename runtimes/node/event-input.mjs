// What a handler of the event style gets: an API-Gateway event of version 2.0 that carries version 1's names too, or, from
// any other trigger, the event's data itself.

/** @import { Exchange } from "./http1.mjs" */

const textType =
  /^(?:text\/|application\/(?:json|xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson|yaml|toml)\b|[^;]+\+(?:json|xml)\b)/i;
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A body as text, where it is text; null: it is not. @param {Exchange} exchange @param {Buffer} body @returns {string | null} */
function textOf(exchange, body) {
  const type = exchange.header("content-type");
  if ((type !== undefined && !textType.test(type)) || exchange.header("content-encoding") !== undefined) return null;
  try {
    return decoder.decode(body);
  } catch {
    return null;
  }
}

/** @param {string} text @returns {string} a broken escape stays as it was written */
function decode(text) {
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text;
  if (!spaced.includes("%")) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

/** @param {string} query @returns {{ joined: Record<string, string>, all: Record<string, string[]> | null }} */
function parseQuery(query) {
  if (query === "") return { joined: {}, all: null };
  const all = /** @type {Record<string, string[]>} */ (Object.create(null));
  for (const part of query.split("&")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const name = decode(equals < 0 ? part : part.slice(0, equals));
    (all[name] ??= []).push(equals < 0 ? "" : decode(part.slice(equals + 1)));
  }
  /** @type {Record<string, string>} */
  const joined = {};
  for (const name of Object.keys(all))
    Object.defineProperty(joined, name, {
      value: all[name]?.join(","),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  return { joined, all: { ...all } };
}

/** Repeated fields joined as version 2.0 does; cookies apart. @param {Exchange} exchange */
function headersOf(exchange) {
  /** @type {Record<string, string>} */
  const headers = {};
  /** @type {string[] | undefined} */
  let cookies;
  const list = exchange.headers;
  for (let i = 0; i < list.length; i += 2) {
    const name = /** @type {string} */ (list[i]);
    const value = /** @type {string} */ (list[i + 1]);
    if (name === "cookie") (cookies ??= []).push(...value.split(/; */).filter((cookie) => cookie !== ""));
    if (name === "__proto__") continue;
    const before = headers[name];
    headers[name] =
      before === undefined || !Object.hasOwn(headers, name)
        ? value
        : name === "cookie"
          ? `${before}; ${value}`
          : `${before},${value}`;
  }
  return { headers, cookies };
}

/** @param {Exchange} exchange @param {string} id @param {Buffer} body */
export function httpEvent(exchange, id, body) {
  const { method, target } = exchange;
  const mark = target.indexOf("?");
  const rawPath = mark < 0 ? target : target.slice(0, mark);
  const rawQueryString = mark < 0 ? "" : target.slice(mark + 1);
  const { headers, cookies } = headersOf(exchange);
  const query = parseQuery(rawQueryString);
  const now = new Date();
  const text = body.length === 0 ? null : textOf(exchange, body);
  const domainName = headers["host"] ?? "";
  const sourceIp = (headers["x-forwarded-for"] ?? "").split(",")[0]?.trim() ?? "";
  const userAgent = headers["user-agent"] ?? "";
  return {
    version: "2.0",
    routeKey: "$default",
    resource: rawPath,
    rawPath,
    path: rawPath,
    httpMethod: method,
    rawQueryString,
    ...(cookies === undefined ? undefined : { cookies }),
    headers,
    multiValueHeaders: null,
    queryStringParameters: query.joined,
    multiValueQueryStringParameters: query.all,
    pathParameters: null,
    stageVariables: {},
    requestContext: {
      accountId: "",
      apiId: "",
      resourceId: "",
      resourcePath: rawPath,
      domainName,
      domainPrefix: domainName.split(".")[0] ?? "",
      http: { method, path: rawPath, protocol: "HTTP/1.1", sourceIp, userAgent },
      httpMethod: method,
      identity: { sourceIp, userAgent },
      authorizer: null,
      requestId: id,
      routeKey: "$default",
      stage: "$default",
      time: now.toISOString(),
      timeEpoch: now.getTime(),
    },
    body: body.length === 0 ? null : (text ?? body.toString("base64")),
    isBase64Encoded: body.length > 0 && text === null,
  };
}

/** The data of an event that came by another trigger. @param {Exchange} exchange @param {Buffer} body @returns {unknown} */
export function triggerInput(exchange, body) {
  if (body.length === 0) return {};
  const text = textOf(exchange, body);
  if (text === null) return { data_base64: body.toString("base64") };
  const type = exchange.header("content-type");
  if (type !== undefined && !/\bjson\b/i.test(type)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
