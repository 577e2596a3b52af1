// What the API refused, in lines for a person: the first says it all, the rest show more of it.

import { ClientError } from "#client/client.ts";
import { EbbError } from "#model/errors.ts";

/** null: it is no answer of the API. */
export function linesOfClientError(error: unknown): string[] | null {
  // Several problems of an ebb.yaml are a line each.
  if (error instanceof EbbError) return error.message.split("\n");
  if (!(error instanceof ClientError)) return null;
  const { problem } = error;
  if (!problem) return [error.message];
  const lines = [problem.detail];
  const problems: unknown = problem["problems"];
  if (problem.code === "deploy_refused" && Array.isArray(problems)) lines.push(...problems.flatMap(deployLines));
  else if (problem.code === "invalid_app" && Array.isArray(problems))
    lines.push(...problems.slice(1).flatMap(appLines));
  return lines;
}

function text(of: unknown, key: string): string {
  if (of === null || typeof of !== "object" || !(key in of)) return "";
  const value: unknown = Object.entries(of).find(([name]) => name === key)?.[1];
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

function deployLines(problem: unknown, index: number): string[] {
  const lines: string[] = [];
  const hint = text(problem, "hint");
  if (index > 0)
    lines.push(`${text(problem, "workload")}: ${text(problem, "message")}${hint === "" ? "" : `. ${hint}`}`);
  for (const key of ["stack", "output"])
    for (const line of text(problem, key).split("\n").slice(0, 40)) if (line.trim() !== "") lines.push(`    ${line}`);
  return lines;
}

function appLines(problem: unknown): string[] {
  return [`${text(problem, "file")}:${text(problem, "line")}: ${text(problem, "path")}: ${text(problem, "message")}`];
}
