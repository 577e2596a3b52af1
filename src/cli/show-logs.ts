// Log lines on stdout: what `logs` and `dev` share.

import { ClientError, type Client, type LogRow, type LogsQuery } from "#client/client.ts";
import { sanitized, type Output } from "./output.ts";

export function printLog(output: Output, row: LogRow): void {
  if (output.json) return output.value(row);
  const message = output.terminal ? sanitized(row.message) : row.message;
  const color = row.level === "error" ? "red" : row.level === "warn" ? "yellow" : null;
  const call = row.invocation === null ? "-".repeat(6) : row.invocation.slice(-6);
  const head = output.style("dim", `${row.time.slice(11, 23)} ${row.workload} ${call}`);
  output.line(`${head} ${color ? output.style(color, message) : message}`);
}

/** Prints what was written already, then what is written, without a gap and without a line twice, until `signal` aborts. */
export async function followLogs(
  client: Client,
  output: Output,
  project: string,
  query: LogsQuery,
  signal: AbortSignal,
  wanted: (row: LogRow) => boolean = () => true,
): Promise<void> {
  const { limit, since, ...filter } = query;
  const coming = client.followLogs(project, filter, signal);
  // Asked for first, so that nothing falls between the two; what both tell is recognised.
  const first = coming.next();
  first.catch(() => {});
  const seen = new Set<string>();
  for (const row of await client.logs(project, {
    ...filter,
    limit: limit ?? 20,
    ...(since === undefined ? {} : { since }),
  })) {
    if (!wanted(row)) continue;
    printLog(output, row);
    seen.add(JSON.stringify(row));
  }
  try {
    for (let next = await first; next.done !== true; next = await coming.next())
      if (wanted(next.value) && (seen.size === 0 || !seen.delete(JSON.stringify(next.value))))
        printLog(output, next.value);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  if (!signal.aborted) throw new ClientError("the log stream ended: ebb has stopped", null, null);
}
