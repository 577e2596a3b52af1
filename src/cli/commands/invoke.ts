// ebb invoke NAME: a call like any other, by the daemon's own address (names under .localhost do not resolve everywhere).

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { ClientError, type Client, type InvocationRow } from "#client/client.ts";
import { errnoOf } from "#lib/errno.ts";
import type { CommandContext } from "../context.ts";
import { Failure, UsageError } from "../failure.ts";
import type { Options } from "../parse.ts";
import type { Streams } from "../streams.ts";

/** What --json holds in memory of an answer. */
const jsonBodyBytes = 64 * 1024 * 1024;

export async function run({
  arguments: [name = ""],
  options,
  output,
  streams,
  project,
  client,
}: CommandContext): Promise<void> {
  if (options.flag("async")) throw new UsageError("ebb invoke: --async is not in this version");
  const api = await client();
  const body = await bodyOf(options, streams);
  const response = await call(api, project, name, options, body);
  const id = response.headers.get("ebb-invocation-id");
  if (output.json) output.value(await answerOf(api, project, id, response));
  else {
    for await (const chunk of response.body ?? new ReadableStream<Uint8Array>()) await output.bytes(chunk);
    if (output.terminal) output.line();
  }
  if (response.status >= 400) {
    const more = id === null ? "" : `; see: ebb logs ${name} --invocation ${id}`;
    throw new Failure(`${name} answered ${response.status} ${response.statusText}${more}`.trim());
  }
}

async function call(
  api: Client,
  project: string,
  name: string,
  options: Options,
  body: Body | null,
): Promise<Response> {
  const path = options.text("path") ?? "/";
  if (!path.startsWith("/")) throw new UsageError(`ebb invoke: --path: expected /…, found "${path}"`);
  const base = `${api.url.replace(/\/$/, "")}/run/${encodeURIComponent(project)}/${encodeURIComponent(name)}`;
  const headers = new Headers({ "ebb-token": api.token });
  if (body?.type) headers.set("content-type", body.type);
  for (const header of options.many("header")) {
    const [, key = "", value = ""] = /^([^:\s]+):\s*(.*)$/.exec(header) ?? [];
    if (key === "") throw new UsageError(`ebb invoke: -H: expected 'NAME: VALUE', found "${header}"`);
    headers.append(key, value);
  }
  const init: RequestInit & { duplex?: "half" } = {
    method: options.text("method")?.toUpperCase() ?? (body ? "POST" : "GET"),
    headers,
    redirect: "manual",
  };
  if (body) {
    init.body = body.content;
    init.duplex = "half";
  }
  return fetch(base + path, init).catch((error: unknown) => {
    const cause = error instanceof Error ? error.cause : null;
    if (cause === null || cause === undefined)
      throw new UsageError(`ebb invoke: ${error instanceof Error ? error.message : "cannot be sent"}`);
    throw new Failure(
      errnoOf(cause) === "ECONNREFUSED"
        ? `nothing answers at ${api.url}; is ebb up? Start it with: ebb up`
        : `${name} broke off: ${cause instanceof Error ? cause.message : "no answer"}`,
    );
  });
}

interface Body {
  readonly content: string | ReadableStream<Uint8Array>;
  readonly type: string | null;
}

async function bodyOf(options: Options, streams: Pick<Streams, "stdin">): Promise<Body | null> {
  const data = options.text("data");
  const file = options.text("file");
  if (data !== null && file !== null) throw new UsageError("ebb invoke: --data or --file, not both");
  if (data !== null) return { content: data, type: isJson(data) ? "application/json" : "text/plain;charset=utf-8" };
  if (file === null) return null;
  if (file !== "-" && !(await stat(file).catch(() => null))?.isFile()) throw new Failure(`there is no file ${file}`);
  const stream = file === "-" ? streams.stdin : createReadStream(file);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- node:stream/web's type and the global one are the same thing
  return {
    content: Readable.toWeb(stream) as ReadableStream<Uint8Array>,
    type: file.endsWith(".json") ? "application/json" : null,
  };
}

function isJson(text: string): boolean {
  try {
    return JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

async function answerOf(api: Client, project: string, id: string | null, response: Response): Promise<object> {
  const bytes = await bounded(response);
  const record = id === null ? null : await recordOf(api, project, id);
  const text = decoded(bytes);
  return {
    id,
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: text ?? bytes.toString("base64"),
    ...(text === null ? { bodyEncoding: "base64" } : {}),
    durationMs: record?.durationMs ?? null,
    billedMs: record?.billedMs ?? null,
    cold: record?.cold ?? null,
  };
}

/** null: this token may not read records, or there is none. */
async function recordOf(api: Client, project: string, id: string): Promise<InvocationRow | null> {
  return api.invocation(project, id).catch((error: unknown) => {
    if (error instanceof ClientError && (error.status === 403 || error.status === 404)) return null;
    throw error;
  });
}

async function bounded(response: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? new ReadableStream<Uint8Array>()) {
    size += chunk.length;
    if (size > jsonBodyBytes) throw new Failure("the answer has more than 64 MiB; leave --json out to stream it");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** null: not text. */
function decoded(bytes: Buffer): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
