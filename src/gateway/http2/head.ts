// The head of a request of HTTP/2, in the terms of the steps. Pure.

import { isPlainHeader } from "#lib/http2.ts";
import type { RequestHead } from "../http1/request-parser.ts";

/** `rawHeaders`: as node:http2 tells them, pseudo headers among them. null: what a server of HTTP/1.1 could read in another way. */
export function requestHeadOf(rawHeaders: readonly string[], bodied: boolean): RequestHead | null {
  let method = "";
  let target = "";
  let authority: string | null = null;
  let cookie: string | null = null;
  const headers: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const [name, value] = [rawHeaders[i]!, rawHeaders[i + 1]!];
    if (name.startsWith(":")) {
      if (name === ":method") method = value;
      else if (name === ":path") target = value;
      else if (name === ":authority") authority = value;
      else if (name !== ":scheme") return null;
      continue;
    }
    if (!isPlainHeader(name, value)) return null;
    // RFC 9113, 8.2.3: in pieces here, and one header in HTTP/1.1.
    if (name === "cookie") cookie = cookie === null ? value : `${cookie}; ${value}`;
    else if (name === "host" && authority !== null && value.toLowerCase() === authority.toLowerCase()) continue;
    else headers.push(name, value);
  }
  if (authority !== null) headers.unshift("host", authority);
  if (cookie !== null) headers.push("cookie", cookie);
  return { method, target, rawHeaders: headers, versionMajor: 2, versionMinor: 0, keepAlive: true, http2: { bodied } };
}

/** What a request says of its body's length, as far as it counts for what is held of it. */
export function saidLength({ rawHeaders }: RequestHead): number | null {
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i] === "content-length" && /^\d{1,15}$/.test(rawHeaders[i + 1]!)) return Number(rawHeaders[i + 1]);
  return null;
}
