// Names that users choose: what is allowed, and what is reserved. Checked before a name touches anything.

export const workloadNameMaxChars = 40;
export const projectNameMaxChars = 21;
export const defaultProject = "default";

const shape = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const revisionPreview = /^r[0-9]+--/;
const envName = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Why `name` cannot name a workload of `project`; null when it can. */
export function refuseWorkloadName(name: string, project: string): string | null {
  const shapeProblem = refuseShape(name, workloadNameMaxChars);
  if (shapeProblem) return shapeProblem;
  if (project === defaultProject && (name === "console" || name === "api"))
    return `"${name}" is reserved in the default project`;
  return null;
}

/** Why `name` cannot name a project; null when it can. */
export function refuseProjectName(name: string): string | null {
  return refuseShape(name, projectNameMaxChars);
}

/** Why `name` cannot name an environment variable or a secret; null when it can. */
export function refuseEnvName(name: string): string | null {
  if (name.length > 255) return "longer than 255 characters";
  if (!envName.test(name)) return "not letters, digits and underscores, starting with a letter";
  if (/^EBB_/i.test(name) || name === "PORT") return `"${name}" is set by ebb`;
  return null;
}

function refuseShape(name: string, maxChars: number): string | null {
  if (name.length > maxChars) return `longer than ${maxChars} characters`;
  if (!shape.test(name)) return "not lower-case letters, digits and hyphens, starting with a letter";
  if (revisionPreview.test(name)) return "names of the form rN--… are reserved for revision previews";
  if (name.includes("--")) return '"--" separates workload and project in host names';
  return null;
}
