// ebb dev DIR: watch, deploy, tail.

import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isSent } from "#app/walk.ts";
import type { Client } from "#client/client.ts";
import { errnoOf } from "#lib/errno.ts";
import { linesOfClientError } from "../client-error.ts";
import type { CommandContext } from "../context.ts";
import { printDeployed, sendDeploy, type DeployAnswer } from "../deploy.ts";
import { readDotenv } from "../dotenv.ts";
import { Failure } from "../failure.ts";
import { sanitized } from "../output.ts";
import { followLogs } from "../show-logs.ts";
import { watchFolder } from "../watch.ts";

export async function run(context: CommandContext): Promise<void> {
  const {
    arguments: [folder = "."],
    output,
    project,
  } = context;
  if (!(await stat(folder).catch(() => null))?.isDirectory()) throw new Failure(`${folder} is no folder`);
  const api = await context.client();
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  process.once("SIGTERM", () => stop.abort());
  let followed = false;
  const shown = new Set<string>();
  const deploy = async (): Promise<void> => {
    const answer = await tryDeploy(context, api, folder);
    for (const { workload } of answer?.results ?? []) shown.add(workload);
    if (followed || !answer) return;
    followed = true;
    const where = answer.results[0]?.project ?? project;
    const query = { since: Date.now(), limit: 1_000 };
    // A daemon that restarts ends the tail; the next change finds it again.
    void followLogs(api, output, where, query, stop.signal, ({ workload }) => shown.has(workload)).catch(
      (error: unknown) => {
        followed = false;
        tell(context, error);
      },
    );
  };
  output.note(`watching ${folder}; Ctrl-C ends`);
  await watchFolder(folder, {
    signal: stop.signal,
    changed: deploy,
    counts: (path) => counts(folder, path),
  });
}

async function counts(folder: string, path: string): Promise<boolean> {
  // Not sent, but they count: one is the environment, the other says what is sent.
  if (path === ".env" || path === ".ebbignore" || path.endsWith("/.ebbignore")) return true;
  // npm writes this one last; a deploy for each file of a package before it would be of half of them.
  if (/(^|\/)node_modules\//.test(path)) return path.endsWith("node_modules/.package-lock.json");
  return isSent(folder, path);
}

/** null: refused, and told; the old revision serves on, and the next change tries again. */
async function tryDeploy(
  { options, output, streams, projectSaid }: CommandContext,
  api: Client,
  folder: string,
): Promise<DeployAnswer | null> {
  try {
    const answer = await sendDeploy(api, folder, {
      project: projectSaid,
      name: options.text("name"),
      memoryMb: null,
      env: await environmentOf(folder),
      public: options.flag("public") ? true : null,
      output,
    });
    if (output.json) output.value(answer);
    else printDeployed(output, answer);
    return answer;
  } catch (error) {
    tell({ output, streams }, error);
    return null;
  }
}

function tell({ output, streams }: Pick<CommandContext, "output" | "streams">, error: unknown): void {
  const lines = linesOfClientError(error) ?? (error instanceof Failure ? [error.message] : null);
  if (!lines) throw error;
  // Also with --json: stderr is a person's.
  for (const line of lines) streams.stderr.write(`${output.style("red", sanitized(line))}\n`);
}

async function environmentOf(folder: string): Promise<string[]> {
  const path = join(folder, ".env");
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  });
  return readDotenv(text, path).map(([name, value]) => `${name}=${value}`);
}
