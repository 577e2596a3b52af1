// Answers with one JSON value a line, for as long as the source lives or the client stays.

import { pipeline, type Readable } from "node:stream";
import type { FastifyReply } from "fastify";

/** Takes the answer out of fastify's hands: nothing is to be serialised or sent after it. The source is destroyed when the client leaves. */
export function streamLines<Reply extends Pick<FastifyReply, "hijack" | "raw">>(reply: Reply, source: Readable): Reply {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  reply.raw.flushHeaders();
  // Whatever ends it has been told in the stream itself, or is the client's leaving.
  pipeline(source, reply.raw, () => {});
  return reply;
}
