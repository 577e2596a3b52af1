// Step 4: where the request goes, by host and by one reading of its path.

import { EbbError } from "#model/errors.ts";
import type { Inbound, StepContext } from "../inbound.ts";
import { consoleLabel } from "../host.ts";
import { routePath } from "../target.ts";

export function findRoute(inbound: Inbound, context: StepContext): EbbError | null {
  const { host } = inbound;
  if (host.kind === "workload") {
    inbound.destination = { kind: "workload", project: host.project, workload: host.workload, viaPath: false };
    return null;
  }
  const route = routePath(inbound.path);
  switch (route.kind) {
    case "workload":
      // On the console's host a cookie will be worth something: no workload's page shares its origin.
      if (host.kind === "platform" && host.at === "console") break;
      inbound.destination = { kind: "workload", project: route.project, workload: route.workload, viaPath: true };
      inbound.path = route.path;
      inbound.prefix = route.prefix;
      return null;
    case "ambiguous":
      return new EbbError(
        "bad_request",
        "The path has dot segments, empty segments, or an encoded slash, backslash or dot.",
      );
    case "api":
      if (inbound.internal) break;
      inbound.destination = { kind: "api" };
      return null;
    case "console":
      if (inbound.internal) break;
      inbound.destination = { kind: "elsewhere", url: consoleUrl(inbound, route.path, context) };
      return null;
    case "health":
    case "page":
      inbound.destination = { kind: route.kind };
      return null;
    case "none":
      break;
  }
  return new EbbError("not_found", `There is nothing at "${inbound.path.slice(0, 200)}".`);
}

/** With the scheme and the port by which the client came. */
function consoleUrl({ outer, authority, target }: Inbound, path: string, { base }: StepContext): string {
  const port = authority === null || authority.port === null ? "" : `:${authority.port}`;
  return `${outer.scheme}://${consoleLabel}.${base}${port}${path}${target.query}`;
}
