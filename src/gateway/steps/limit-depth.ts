// Step 8: how deep in calls from function to function this one is. The depth is ebb's own knowledge of the calling
// instance's invocations, not a header: what a caller sends only chooses among those.

import { EbbError } from "#model/errors.ts";
import { callDepthMax } from "#model/limits.ts";
import type { Inbound, StepContext } from "../inbound.ts";

export function limitDepth(inbound: Inbound, { activator }: StepContext): EbbError | null {
  const instance = inbound.caller?.instance;
  if (instance === undefined || instance === null || inbound.destination?.kind !== "workload") return null;
  const { ebbInvocation, traceparent } = inbound.known;
  inbound.depth = activator.depthIn(instance, { invocation: ebbInvocation, traceparent }) + 1;
  return inbound.depth > callDepthMax
    ? new EbbError("loop", `This call is ${inbound.depth} deep; calls deeper than ${callDepthMax} are refused.`)
    : null;
}
