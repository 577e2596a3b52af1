// How the command line sends a request of the API: by node:http. What fetch loads takes longer than most commands do.

import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { request } from "#lib/http.ts";
import type { Send } from "#client/client.ts";

export const send: Send = async ({ url, method, headers, body, signal }) => {
  const start = url.protocol === "https:" ? process.getBuiltinModule("node:https").request : request;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = start(url, { method, headers, ...(signal ? { signal } : {}) }, resolve).on("error", reject);
  const source =
    body === null || typeof body === "string" || body instanceof Uint8Array
      ? null
      : Readable.from(body, { objectMode: false }).on("error", (error) => outgoing.destroy(error));
  if (source !== null) source.pipe(outgoing);
  else outgoing.end(body ?? undefined);
  const answer = await promise;
  // Answered before all was sent: nobody reads the rest.
  answer.once("close", () => {
    if (outgoing.writableFinished) return;
    source?.destroy();
    outgoing.destroy();
  });
  return {
    status: answer.statusCode ?? 0,
    statusText: answer.statusMessage ?? "",
    contentType: answer.headers["content-type"] ?? "",
    body: answer,
  };
};
