// A load that does not wait for answers: so many requests a second, each timed from the moment at which it was due.

import { Client, type Target } from "./load.ts";

export interface OpenLoopResult {
  /** From when it was due to the end of its answer, in the order of the due times. */
  readonly latenciesMs: Float64Array;
  /** Answers other than 200, and connections that broke. */
  readonly failed: number;
  /** The latest that one was sent after it was due: the client's own part of its latency. */
  readonly sentLateMs: number;
}

export interface OpenLoopOptions {
  readonly perSecond: number;
  readonly durationMs: number;
  readonly host: string;
  /** Opened before the first is due; left out: each when it is needed, as many as it takes. */
  readonly connectionsMax?: number;
}

/** Whoever is due takes a kept connection that is free; where there is none it opens one, or waits for one where there may be no more. */
export async function openLoop(target: Target, options: OpenLoopOptions): Promise<OpenLoopResult> {
  const { perSecond, durationMs, host, connectionsMax = Infinity } = options;
  const request = `GET / HTTP/1.1\r\nhost: ${host}\r\n\r\n`;
  const count = Math.floor((perSecond * durationMs) / 1000);
  const latenciesMs = new Float64Array(count);
  const free: Connection[] = [];
  const open = new Set<Connection>();
  let [failed, answered, sent, sentLateMs] = [0, 0, 0, 0];
  const all = Promise.withResolvers<void>();
  let began = 0;
  const dueMs = (index: number): number => began + (index * 1000) / perSecond;

  const over = (connection: Connection, status: number): void => {
    latenciesMs[connection.index] = performance.now() - dueMs(connection.index);
    if (status !== 200) failed++;
    if (++answered === count) all.resolve();
  };
  const ask = (connection: Connection): void => {
    sentLateMs = Math.max(sentLateMs, performance.now() - dueMs(connection.index));
    connection.client.ask(request);
  };
  const connect = (index: number, opened: (connection: Connection) => void): void => {
    const client = new Client(
      target,
      (status) => {
        over(connection, status);
        free.push(connection);
        // Where there may be no more connections, the next may be due already.
        if (connectionsMax < Infinity) sendDue();
      },
      () => {
        if (!open.delete(connection)) return;
        const at = free.indexOf(connection);
        if (connection.index === noRequest)
          all.reject(new Error("a connection could not be opened, or ended before its first request"));
        else if (at < 0) over(connection, 0);
        else free.splice(at, 1);
      },
    );
    const connection: Connection = { client, index };
    open.add(connection);
    client.open(() => opened(connection));
  };
  const sendDue = (): void => {
    for (; sent < count && dueMs(sent) <= performance.now(); sent++) {
      const connection = free.pop();
      if (connection === undefined) {
        if (open.size >= connectionsMax) break;
        connect(sent, ask);
        continue;
      }
      connection.index = sent;
      ask(connection);
    }
  };
  if (connectionsMax < Infinity) {
    const ahead = Array.from({ length: connectionsMax }, async () => {
      free.push(await new Promise<Connection>((resolve) => connect(noRequest, resolve)));
    });
    await Promise.race([Promise.all(ahead), all.promise]);
  }
  began = performance.now();
  const everyMs = setInterval(sendDue, 1);
  sendDue();
  await all.promise;
  clearInterval(everyMs);
  for (const { client } of open) client.close();
  return { latenciesMs, failed, sentLateMs };
}

/** Of a connection that has carried none. */
const noRequest = -1;

interface Connection {
  readonly client: Client;
  /** Of the request that it carries, or carried last. */
  index: number;
}
