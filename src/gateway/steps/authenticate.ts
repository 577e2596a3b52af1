// Step 6: may this caller use the workload? Before anything of the workload is touched, and before user code can see a token.

import { EbbError } from "#model/errors.ts";
import { servingOf, type Revision } from "#model/workload.ts";
import type { Inbound, StepContext } from "../inbound.ts";

export function authenticate(inbound: Inbound, context: StepContext): EbbError | null {
  const { destination, known, caller } = inbound;
  if (destination?.kind !== "workload") return null;
  const { access, clock, mirror } = context;
  if (known.authorization !== null && access.looksLikeOurs(known.authorization))
    return new EbbError(
      "token_in_authorization",
      "A token of ebb was found in Authorization; it was not passed on. Send it in the header ebb-token.",
    );
  const { project, workload } = destination;
  const found = mirror.workload(project, workload);
  if (found && servingOf(found.revision)?.settings.public) return null;
  if (caller !== null && caller.project === project) return exists(found, project, workload);
  // Whether a private workload exists is told to those alone who may use it.
  if (known.ebbToken === null)
    return new EbbError(
      "unauthenticated",
      `There is no public workload "${workload}" in project "${project}"; a private one wants a token in ebb-token.`,
    );
  const identity = access.authenticate(known.ebbToken, clock.wallMs());
  if (identity === null)
    return new EbbError("unauthenticated", "The token in ebb-token is not valid: unknown, expired or removed.");
  return access.authorize(identity, "invoke", project) ?? exists(found, project, workload);
}

function exists(found: { readonly revision: Revision } | null, project: string, workload: string): EbbError | null {
  if (found === null) return new EbbError("not_found", `There is no workload "${workload}" in project "${project}".`);
  if (found.revision.kind !== "job") return null;
  return new EbbError(
    "not_found",
    `"${workload}" is a job, which answers no requests; run it: ebb jobs run ${workload}`,
  );
}
