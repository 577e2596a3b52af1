// One request of the API by fetch: answers as JSON or as lines of JSON, errors as ClientError.

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

export interface ClientOptions {
  /** Of the daemon, without a path. */
  readonly url: string;
  readonly token: string;
  readonly fetch?: typeof fetch;
}

export interface Ask {
  readonly method?: string;
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | null | undefined>>;
  readonly json?: unknown;
  readonly body?: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface Transport {
  readonly ask: (path: string, ask?: Ask) => Promise<Response>;
  readonly json: <T>(path: string, ask?: Ask) => Promise<T>;
  readonly nothing: (path: string, ask?: Ask) => Promise<void>;
  /** Parsed lines, as they come. Empty ones (heartbeats) are left out. */
  readonly lines: <T>(path: string, ask?: Ask) => AsyncGenerator<T, void>;
}

export function createTransport(options: ClientOptions): Transport {
  const doFetch = options.fetch ?? fetch;

  async function ask(
    path: string,
    { method = "GET", query = {}, json, body, headers = {}, signal }: Ask = {},
  ): Promise<Response> {
    const url = new URL(path, options.url);
    for (const [key, value] of Object.entries(query)) {
      if (value === null || value === undefined) continue;
      for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(key, String(one));
    }
    const init: RequestInit & { duplex?: "half" } = {
      method,
      // A redirect would carry the token to wherever it points.
      redirect: "error",
      headers: {
        authorization: `Bearer ${options.token}`,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(signal ? { signal } : {}),
    };
    if (json !== undefined) init.body = JSON.stringify(json);
    if (body !== undefined) {
      init.body = body;
      init.duplex = "half";
    }
    const response = await doFetch(url, init).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new ClientError(noAnswer(options.url, error), null, null, error);
    });
    if (!response.ok) throw await refused(response);
    return response;
  }

  return {
    ask,
    json: async <T>(path: string, more?: Ask) => parse<T>(await (await ask(path, more)).text()),
    nothing: async (path, more) => {
      await (await ask(path, more)).body?.cancel();
    },
    async *lines<T>(path: string, more?: Ask) {
      const response = await ask(path, { ...more, headers: { ...more?.headers, accept: "application/x-ndjson" } });
      let rest = "";
      for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
        const parts = (rest + chunk).split("\n");
        rest = parts.pop()!;
        for (const line of parts) if (line !== "") yield parse<T>(line);
      }
      if (rest !== "") yield parse<T>(rest);
    },
  };
}

async function refused(response: Response): Promise<ClientError> {
  const text = await response.text().catch(() => "");
  const problem = /json/.test(response.headers.get("content-type") ?? "") ? asProblem(text) : null;
  return new ClientError(
    problem?.detail ??
      `${response.status} ${response.statusText || "without a reason"} from ${new URL(response.url).origin}`,
    response.status,
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
  const cause = error instanceof Error ? error.cause : null;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (code === "ECONNREFUSED") return `nothing answers at ${url}; is ebb up? Start it with: ebb up`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return `the name in ${url} cannot be resolved`;
  const words = cause instanceof Error ? cause.message : error instanceof Error ? error.message : "no answer";
  return `${url} did not answer: ${words}`;
}

// What comes back is the API's word, held by its own response schemas; it is not checked twice.
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- said once here instead of at every call
function parse<T>(text: string): T {
  return JSON.parse(text);
}
