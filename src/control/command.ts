// What every command has in common: it authorises before anything else, and leaves an audit row however it ends.

import type { AuditEntry, Identity, Scope } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { newErrorId } from "#model/ids.ts";
import { refuseEnvName, refuseProjectName, refuseWorkloadName } from "#model/names.ts";
import type { Project, Revision, Workload } from "#model/workload.ts";
import type { Context } from "./context.ts";

export interface CommandHead {
  /** Noun and verb, as the file's path: "workloads rollback". */
  readonly command: string;
  readonly identity: Identity;
  readonly needs: Scope;
  /** null: what spans projects. */
  readonly project: string | null;
  readonly target: string | null;
}

/** Makes the audit row of a change that succeeds. */
export type Audit = (detail: string) => AuditEntry;

/**
 * Authorises, then runs. What is refused or fails is audited here; what succeeds carries its row in its own change, in the
 * same transaction.
 */
export async function command<T>(context: Context, head: CommandHead, run: (audit: Audit) => Promise<T>): Promise<T> {
  const row = (outcome: AuditEntry["outcome"], detail: string): AuditEntry => ({
    timeMs: context.clock.wallMs(),
    identity: head.identity.name,
    command: head.command,
    project: head.project === null ? null : shown(head.project),
    target: head.target === null ? null : shown(head.target),
    outcome,
    detail: detail.slice(0, 2_000),
  });
  try {
    const refusal = context.access.authorize(head.identity, head.needs, head.project);
    if (refusal) throw refusal;
    return await run((detail) => row("ok", detail));
  } catch (error) {
    const known = error instanceof EbbError;
    const outcome = known && error.kind.fault !== "platform" ? "refused" : "failed";
    // An audit that cannot be written must not hide why the command failed; the store tells of its own trouble.
    await context.store.audit(row(outcome, known ? error.message : "an unexpected error")).catch((reason: unknown) => {
      context.tell({ kind: "defect", errorId: newErrorId(), where: `audit of ${head.command}`, error: reason });
    });
    throw error;
  }
}

/** A name that was not checked yet, as far as it is fit to be shown. */
function shown(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are exactly what must not reach a reader's terminal
  return text.slice(0, 100).replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}

function checkName(what: string, name: string, refusal: string | null): void {
  if (refusal !== null) throw new EbbError("invalid_name", `${what} "${shown(name)}": ${refusal}`);
}

export function checkProjectName(name: string): void {
  checkName("project", name, refuseProjectName(name));
}

export function checkWorkloadName(name: string, project: string): void {
  checkName("workload", name, refuseWorkloadName(name, project));
}

export function checkSecretName(name: string): void {
  checkName("secret", name, refuseEnvName(name));
}

/** The project, or EbbError not_found. */
export function projectOf(context: Context, name: string): Project {
  checkProjectName(name);
  const project = context.mirror.project(name);
  if (!project)
    throw new EbbError("not_found", `there is no project "${name}"; create it: ebb projects create ${name}`);
  return project;
}

/** The workload with its current revision, or EbbError not_found. */
export function workloadOf(
  context: Context,
  project: string,
  name: string,
): { workload: Workload; revision: Revision } {
  checkProjectName(project);
  checkWorkloadName(name, project);
  const found = context.mirror.workload(project, name);
  if (!found) throw new EbbError("not_found", `there is no workload "${name}" in project "${project}"`);
  return found;
}
