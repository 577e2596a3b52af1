// How the command line sends a request of the API: by node:http. What fetch loads takes longer than most commands do.

import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { request } from "#lib/http.ts";
import type { Send } from "#client/client.ts";

export const send: Send = async ({ url, method, headers, body, signal }) => {
  const start = url.protocol === "https:" ? process.getBuiltinModule("node:https").request : request;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = start(url, { method, headers, ...(signal ? { signal } : {}) }, resolve).on("error", reject);
  if (body === null || typeof body === "string" || body instanceof Uint8Array) outgoing.end(body ?? undefined);
  else
    Readable.from(body, { objectMode: false })
      .on("error", (error) => outgoing.destroy(error))
      .pipe(outgoing);
  const answer = await promise;
  return {
    status: answer.statusCode ?? 0,
    statusText: answer.statusMessage ?? "",
    contentType: answer.headers["content-type"] ?? "",
    body: answer,
  };
};
