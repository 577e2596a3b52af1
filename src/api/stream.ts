// Answers that are not made at once: one JSON value a line for as long as the source lives, and long lists.

import { pipeline, Readable } from "node:stream";
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

/** Made between two turns of the main loop: a millisecond or two of it. */
export const rowsATurn = 100;

/**
 * A JSON array of as many rows as there are, which is never in memory whole: a project may have 100,000 workloads, whose list takes
 * seconds to make. Rows are made as the client takes them, and calls are served meanwhile.
 */
export function streamArray<Reply extends Pick<FastifyReply, "hijack" | "raw">, T>(
  reply: Reply,
  items: readonly T[],
  row: (item: T) => object,
): Reply {
  return streamText(reply, arrayText([items], row));
}

/** An object of `rest` and an array `rows`, of lists that come one after the other, in the same way. */
export function streamRows<Reply extends Pick<FastifyReply, "hijack" | "raw">, T>(
  reply: Reply,
  rest: object,
  lists: AsyncIterable<readonly T[]>,
  row: (item: T) => object,
): Reply {
  return streamText(reply, objectText(rest, lists, row));
}

async function* objectText<T>(
  rest: object,
  lists: AsyncIterable<readonly T[]>,
  row: (item: T) => object,
): AsyncGenerator<string, void> {
  yield `${JSON.stringify(rest).slice(0, -1)},"rows":`;
  yield* arrayText(lists, row);
  yield "}";
}

function streamText<Reply extends Pick<FastifyReply, "hijack" | "raw">>(
  reply: Reply,
  text: AsyncGenerator<string, void>,
): Reply {
  reply.hijack();
  reply.raw.writeHead(200, {
    "content-type": "application/json; charset=utf-8",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  // Where a row cannot be made the answer breaks off: nobody takes it for whole.
  pipeline(Readable.from(text, { objectMode: false }), reply.raw, () => {});
  return reply;
}

async function* arrayText<T>(
  lists: Iterable<readonly T[]> | AsyncIterable<readonly T[]>,
  row: (item: T) => object,
): AsyncGenerator<string, void> {
  let open = "[";
  for await (const items of lists)
    for (let at = 0; at < items.length; at += rowsATurn) {
      const rows = items.slice(at, at + rowsATurn).map((item) => JSON.stringify(row(item)));
      yield open + rows.join(",");
      open = ",";
      await new Promise((resolve) => setImmediate(resolve));
    }
  yield open === "[" ? "[]" : "]";
}
