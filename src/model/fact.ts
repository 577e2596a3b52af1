// Facts: what happened inside ebb, told to whoever listens. Telling never waits and never fails.

import type { InstanceId, InvocationId } from "./ids.ts";
import type { Failure, StartPhases } from "./instance.ts";
import type { InvocationRecord } from "./invocation.ts";
import type { RunId } from "./run.ts";

export type Fact =
  | {
      readonly kind: "deployed";
      readonly project: string;
      readonly workload: string;
      readonly revision: number;
      readonly by: string;
    }
  | { readonly kind: "removed"; readonly project: string; readonly workload: string; readonly by: string }
  | {
      readonly kind: "instance_starting";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
      readonly revision: number;
    }
  | {
      readonly kind: "instance_ready";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
      readonly revision: number;
      /** Its sandbox had been started before it was called for. */
      readonly ahead: boolean;
      readonly phases: StartPhases;
    }
  | {
      readonly kind: "instance_paused";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
      readonly reason: string;
    }
  | {
      readonly kind: "instance_resumed";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
    }
  | {
      readonly kind: "instance_failed";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
      readonly revision: number;
      readonly failure: Failure;
    }
  | {
      readonly kind: "instance_stopped";
      readonly instance: InstanceId;
      readonly project: string;
      readonly workload: string;
      readonly reason: string;
    }
  | {
      readonly kind: "scaled";
      readonly project: string;
      readonly workload: string;
      readonly from: number;
      readonly to: number;
      readonly reasons: readonly string[];
    }
  | {
      readonly kind: "invocation_ended";
      readonly record: Partial<InvocationRecord> & Pick<InvocationRecord, "id" | "project" | "workload">;
    }
  | {
      /** A name was not resolved for a function, or not all of its addresses were told: neither its list nor a permit opens them. */
      readonly kind: "egress_withheld";
      readonly project: string;
      readonly workload: string;
      readonly name: string;
      readonly reasons: readonly string[];
    }
  | {
      /** An attempt at a task of a run is over. */
      readonly kind: "execution_ended";
      readonly project: string;
      readonly workload: string;
      readonly run: RunId;
      readonly execution: InvocationId;
      readonly instance: InstanceId;
      /** null: there is nothing to say of it. */
      readonly message: string | null;
      readonly failed: boolean;
    }
  | { readonly kind: "worker_restarted"; readonly worker: "store" | "telemetry" | "spawner"; readonly reason: string }
  | { readonly kind: "defect"; readonly errorId: string; readonly where: string; readonly error: unknown };

export type Tell = (fact: Fact) => void;
