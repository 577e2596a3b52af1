// Sends a folder and tells how it went: what `deploy`, `dev` and `start` share.

import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { collect, type Collected } from "#app/collect.ts";
import { nameOf } from "#app/recognise.ts";
import type { Client, Deployed, DeployedWorkload, DeployOptions } from "#client/client.ts";
import { EbbError } from "#model/errors.ts";
import { defaultProject } from "#model/names.ts";
import { showProgress, type ShownProgress } from "./deploy-progress.ts";
import { Failure } from "./failure.ts";
import { sanitized, type Output } from "./output.ts";

export interface DeployAnswer extends Deployed {
  /** What its author should know. */
  readonly notes: readonly string[];
  readonly seconds: number;
}

export interface DeployRequest extends Omit<DeployOptions, "folderName" | "gitCommit" | "prune"> {
  /** Told what is noted, as soon as it is, and shown how far it is. */
  readonly output: Pick<Output, "note" | "status">;
  /** Which workloads of which project are to be removed with it, asked before anything is sent; throws to stop it all. */
  readonly prune?: (collected: Collected) => Promise<Pick<DeployOptions, "project" | "prune">>;
}

/** Throws EbbError for what is found wrong here, before anything is sent; ClientError for what the daemon refuses. */
export async function sendDeploy(client: Client, path: string, request: DeployRequest): Promise<DeployAnswer> {
  const { output, prune = async () => ({ project: request.project, prune: [] }), ...options } = request;
  const began = performance.now();
  const [collected, gitCommit] = await Promise.all([collect(path), commitOf(path)]);
  const { archive } = collected;
  let broken: unknown = null;
  archive.once("error", (error) => (broken = error));
  try {
    const folderName = folderNameOf(collected, options);
    const agreed = await prune(collected);
    const notes: string[] = [];
    const note = (text: string): void => {
      notes.push(text);
      output.note(sanitized(text));
    };
    collected.notes.forEach(note);
    const progress = showProgress(output);
    const sent = { ...options, ...agreed, folderName, gitCommit };
    const deployed = await client
      .deploy(sent, counted(archive, progress), (step) => {
        progress.told(step);
        if (step.step === "noted") note(`${step.workload}: ${step.message}`);
        if (step.step === "printed") output.note(sanitized(`${step.workload} | ${step.message}`));
      })
      .finally(() => progress.end());
    return { ...deployed, notes, seconds: (performance.now() - began) / 1000 };
  } catch (error) {
    archive.destroy();
    throw broken instanceof EbbError ? broken : error;
  }
}

async function* counted(archive: AsyncIterable<Uint8Array>, progress: ShownProgress): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of archive) {
    progress.sent(chunk.length);
    yield chunk;
  }
}

/** What a plain folder's or file's function is called; null: ebb.yaml names its own, or --name did. */
function folderNameOf(
  { kind, base }: Collected,
  { name, project }: Pick<DeployRequest, "name" | "project">,
): string | null {
  if (kind === "app" || name !== null) return null;
  const named = nameOf(base, project ?? defaultProject);
  if (!named.ok) throw new Failure(named.message);
  return named.name;
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
export function printDeployed(output: Output, { results, kept, keptMore, removed, seconds }: DeployAnswer): void {
  const width = Math.max(0, ...results.map(({ workload }) => workload.length));
  for (const result of results) {
    const was = result.unchanged ? "unchanged" : result.before === null ? "new" : `was r${result.before}`;
    const head = [
      output.style("bold", result.workload.padEnd(width)),
      result.runtime ?? result.kind,
      result.image !== null ? imageOf(result) : result.kind === "job" ? jobOf(result) : recognised(result),
      ` r${result.revision} (${was})`,
    ];
    output.line(head.filter((part) => part !== "").join("  "));
    if (result.url === null) {
      output.line(`  run it: ebb jobs run ${result.workload}${projectOption(result)}   ${seconds.toFixed(1)} s`);
      continue;
    }
    const access = result.public ? "public" : `private: curl -H "ebb-token: $(${tokenCommand(result)})" ${result.url}`;
    output.line(`  ${result.url}   ${access}   ${seconds.toFixed(1)} s`);
  }
  if (removed.length > 0) output.line(`removed: ${removed.join(", ")}`);
  const more = keptMore > 0 ? `, and ${keptMore} more` : "";
  if (kept.length > 0)
    output.line(`kept, though ebb.yaml does not declare them: ${kept.join(", ")}${more} (--prune removes them)`);
}

function tokenCommand(result: DeployedWorkload): string {
  return `ebb token${projectOption(result)}`;
}

function projectOption({ project }: DeployedWorkload): string {
  return project === "default" ? "" : ` --project ${project}`;
}

const shownChars = 60;

function short(text: string): string {
  return text.length > shownChars ? `${text.slice(0, shownChars)}…` : text;
}

/** Pinned: the name may lead elsewhere tomorrow. */
function imageOf({ image, imageDigest, command }: DeployedWorkload): string {
  const digest = imageDigest?.slice(0, "sha256:".length + 12) ?? "";
  const name = image?.replace(/@sha256:.*/, "") ?? "";
  return sanitized(`${name}@${digest} (${short((command ?? []).join(" "))})`);
}

function jobOf({ source, command }: DeployedWorkload): string {
  return sanitized(`${source} (${short((command ?? []).join(" "))})`);
}

function recognised({ source, entry, handler, signature }: DeployedWorkload): string {
  const folder = source === "." ? "" : source.replace(/^\.\//, "").replace(/\/?$/, "/");
  const isFile = entry !== null && folder.endsWith(`${entry}/`);
  const file = entry === null ? "" : isFile ? folder.slice(0, -1) : folder + entry;
  return sanitized(`${file} (${handler === null ? "" : `${handler} -> `}${signature})`.trim());
}
