// Sends a folder and tells how it went: what `deploy`, `dev` and `start` share.

import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { basename, dirname, extname, resolve } from "node:path";
import { Readable } from "node:stream";
import type { Client, Deployed, DeployedWorkload, DeployOptions } from "#client/client.ts";
import { workloadNameMaxChars } from "#model/names.ts";
import { Failure } from "./failure.ts";
import { sanitized, type Output } from "./output.ts";
import { packTree } from "./pack.ts";

export interface DeployAnswer extends Deployed {
  /** "name: what its author should know". */
  readonly notes: readonly string[];
  readonly seconds: number;
}

export async function sendDeploy(
  client: Client,
  path: string,
  options: Omit<DeployOptions, "folderName" | "gitCommit">,
): Promise<DeployAnswer> {
  const began = performance.now();
  const [archive, gitCommit] = await Promise.all([packTree(path), commitOf(path)]);
  let broken: unknown = null;
  archive.once("error", (error) => (broken = error));
  const request = { ...options, folderName: nameOf(path), gitCommit };
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- node:stream/web's type and the global one are the same thing
    const body = Readable.toWeb(archive) as ReadableStream<Uint8Array>;
    const notes: string[] = [];
    const deployed = await client.deploy(request, body, ({ step, workload, message }) => {
      if (step === "noted") notes.push(`${String(workload)}: ${String(message)}`);
    });
    return { ...deployed, notes, seconds: (performance.now() - began) / 1000 };
  } catch (error) {
    throw broken instanceof Failure ? broken : error;
  }
}

/** The folder's or file's name, as a workload may be called. */
export function nameOf(path: string): string {
  const name = basename(resolve(path));
  const plain = name
    .slice(0, name.length - (name.startsWith(".") ? 0 : extname(name).length))
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replace(/^[^a-z]+/, "")
    .slice(0, workloadNameMaxChars)
    .replace(/-+$/, "");
  return plain === "" ? "function" : plain;
}

/** null: no git, or no commit. Only HEAD is asked for: nothing that a repository's own configuration could make git run. */
async function commitOf(path: string): Promise<string | null> {
  const folder = await stat(path).then(
    (what) => (what.isDirectory() ? path : dirname(path)),
    () => path,
  );
  return new Promise((done) => {
    execFile("git", ["-C", folder, "rev-parse", "--verify", "HEAD"], { timeout: 2_000 }, (error, stdout) => {
      const commit = stdout.trim();
      done(error === null && /^[0-9a-f]{40,64}$/.test(commit) ? commit : null);
    });
  });
}

/** As INTERFACE shows it: what it recognised, which revision, and where it answers. */
export function printDeployed(output: Output, { results, kept, removed, notes, seconds }: DeployAnswer): void {
  for (const note of notes) output.note(sanitized(note));
  const width = Math.max(0, ...results.map(({ workload }) => workload.length));
  for (const result of results) {
    const was = result.unchanged ? "unchanged" : result.before === null ? "new" : `was r${result.before}`;
    const head = [
      output.style("bold", result.workload.padEnd(width)),
      result.runtime,
      recognised(result),
      ` r${result.revision} (${was})`,
    ];
    output.line(head.filter((part) => part !== "").join("  "));
    const access = result.public ? "public" : `private: curl -H "ebb-token: $(${tokenCommand(result)})" ${result.url}`;
    output.line(`  ${result.url}   ${access}   ${seconds.toFixed(1)} s`);
  }
  if (removed.length > 0) output.line(`removed: ${removed.join(", ")}`);
  if (kept.length > 0)
    output.line(`kept, though ebb.yaml does not declare them: ${kept.join(", ")} (--prune removes them)`);
}

function tokenCommand({ project }: DeployedWorkload): string {
  return project === "default" ? "ebb token" : `ebb token --project ${project}`;
}

function recognised({ source, entry, handler, signature }: DeployedWorkload): string {
  const folder = source === "." ? "" : source.replace(/^\.\//, "").replace(/\/?$/, "/");
  const isFile = entry !== null && folder.endsWith(`${entry}/`);
  const file = entry === null ? "" : isFile ? folder.slice(0, -1) : folder + entry;
  return sanitized(`${file} (${handler === null ? "" : `${handler} -> `}${signature})`.trim());
}
