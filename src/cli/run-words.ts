// Pure: how a run is told in a line.

import type { RunRow } from "#client/client.ts";

export function runState({ state, message, exitCode }: Pick<RunRow, "state" | "message" | "exitCode">): string {
  if (message !== null) return `${state}: ${message}`;
  return exitCode === null || exitCode === 0 ? state : `${state}: exit code ${exitCode}`;
}

/** "1.2 s", "3 min", "2.5 h"; "-": it has not begun. */
export function ranFor({ started, ended }: Pick<RunRow, "started" | "ended">, nowMs: number): string {
  if (started === null) return "-";
  const seconds = Math.max(0, (ended === null ? nowMs : Date.parse(ended)) - Date.parse(started)) / 1_000;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7_200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3_600).toFixed(1)} h`;
}
