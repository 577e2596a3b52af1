// One request of the API: answers as JSON or as lines of JSON, errors as ClientError.

import type { Problem } from "#model/errors.ts";

/** The API said no, or did not answer. Its message is one sentence for a person. */
export class ClientError extends Error {
  /** null: no answer. */
  readonly status: number | null;
  readonly problem: Problem | null;

  constructor(message: string, status: number | null, problem: Problem | null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ClientError";
    this.status = status;
    this.problem = problem;
  }
}

/** How requests are sent: the one thing that is not the same in a browser and on a command line. Rejects where no answer comes. */
export type Send = (request: SentRequest) => Promise<Answer>;

export interface SentRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<Uint8Array> | null;
  readonly signal: AbortSignal | null;
}

/** A redirect is an answer as any other: to follow it would carry the token to wherever it points. */
export interface Answer {
  readonly status: number;
  readonly statusText: string;
  readonly contentType: string;
  /** Once; to leave it early ends the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ClientOptions {
  /** Of the daemon, without a path. */
  readonly url: string;
  readonly token: string;
  readonly send: Send;
}

export interface Ask {
  readonly method?: string;
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | null | undefined>>;
  readonly json?: unknown;
  readonly body?: AsyncIterable<Uint8Array> | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface Transport {
  readonly text: (path: string, ask?: Ask) => Promise<string>;
  readonly json: <T>(path: string, ask?: Ask) => Promise<T>;
  readonly nothing: (path: string, ask?: Ask) => Promise<void>;
  /** As they come. */
  readonly bytes: (path: string, ask?: Ask) => Promise<AsyncIterable<Uint8Array>>;
  /** Parsed lines, as they come. Empty ones (heartbeats) are left out. */
  readonly lines: <T>(path: string, ask?: Ask) => AsyncGenerator<T, void>;
}

export function createTransport(options: ClientOptions): Transport {
  async function ask(
    path: string,
    { method = "GET", query = {}, json, body, headers = {}, signal }: Ask = {},
  ): Promise<Answer> {
    const url = new URL(path, options.url);
    for (const [key, value] of Object.entries(query)) {
      if (value === null || value === undefined) continue;
      for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(key, String(one));
    }
    const sent: SentRequest = {
      url,
      method,
      headers: {
        authorization: `Bearer ${options.token}`,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      body: json === undefined ? (body ?? null) : JSON.stringify(json),
      signal: signal ?? null,
    };
    const answer = await options.send(sent).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new ClientError(noAnswer(options.url, error), null, null, error);
    });
    if (answer.status < 200 || answer.status > 299) throw await refused(answer, url.origin);
    return { ...answer, body: unbroken(answer.body, signal) };
  }

  async function* unbroken(body: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array, void> {
    try {
      yield* body;
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ClientError(`${options.url} broke off in the middle of its answer`, null, null, error);
    }
  }

  const text = async (path: string, more?: Ask): Promise<string> => textOf(await ask(path, more));
  return {
    text,
    json: async <T>(path: string, more?: Ask) => parse<T>(await text(path, more)),
    nothing: async (path, more) => void (await text(path, more)),
    bytes: async (path, more) => (await ask(path, more)).body,
    async *lines<T>(path: string, more?: Ask) {
      const answer = await ask(path, { ...more, headers: { ...more?.headers, accept: "application/x-ndjson" } });
      let rest = "";
      for await (const chunk of decoded(answer)) {
        const parts = (rest + chunk).split("\n");
        rest = parts.pop()!;
        for (const line of parts) if (line !== "") yield parse<T>(line);
      }
      if (rest !== "") yield parse<T>(rest);
    },
  };
}

async function* decoded({ body }: Answer): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  for await (const chunk of body) yield decoder.decode(chunk, { stream: true });
  yield decoder.decode();
}

async function textOf(answer: Answer): Promise<string> {
  let text = "";
  for await (const chunk of decoded(answer)) text += chunk;
  return text;
}

async function refused(answer: Answer, origin: string): Promise<ClientError> {
  const text = await textOf(answer).catch(() => "");
  const problem = /json/.test(answer.contentType) ? asProblem(text) : null;
  return new ClientError(
    problem?.detail ?? `${answer.status} ${answer.statusText || "without a reason"} from ${origin}`,
    answer.status,
    problem,
  );
}

function asProblem(text: string): Problem | null {
  try {
    const value: unknown = JSON.parse(text);
    const isProblem = value !== null && typeof value === "object" && "detail" in value && "code" in value;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the two members that are used are checked
    return isProblem ? (value as Problem) : null;
  } catch {
    return null;
  }
}

function noAnswer(url: string, error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ECONNREFUSED") return `nothing answers at ${url}; is ebb up? Start it with: ebb up`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return `the name in ${url} cannot be resolved`;
  const words = error instanceof Error && error.message !== "" ? error.message : "no answer";
  return `${url} did not answer: ${words}`;
}

// What comes back is the API's word, held by its own response schemas; it is not checked twice.
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- said once here instead of at every call
function parse<T>(text: string): T {
  return JSON.parse(text);
}
