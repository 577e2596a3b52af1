// Facts that a user looks for in the log of a workload, as lines of the stream "ebb".

import type { Fact } from "#model/fact.ts";
import type { LogRecord } from "./record.ts";
import { harmless, type Level } from "./text.ts";

/** Empty: not for the log. */
export function linesOf(
  fact: Fact,
  timeMs: number,
): readonly { readonly project: string; readonly record: LogRecord }[] {
  switch (fact.kind) {
    case "deployed":
      return lines(fact.project, fact.workload, null, "info", `r${fact.revision} deployed by ${fact.by}`, timeMs);
    case "removed":
      return lines(fact.project, fact.workload, null, "info", `removed by ${fact.by}`, timeMs);
    case "instance_failed": {
      const { message, stack, hint } = fact.failure;
      // A stack begins with its message, as JavaScript writes it.
      const words = stack?.includes(message) ? stack : [message, stack].filter(Boolean).join("\n");
      const text = `instance ${fact.instance} (r${fact.revision}) failed: ${[words, hint].filter(Boolean).join("\n")}`;
      return lines(fact.project, fact.workload, fact.instance, "error", text, timeMs);
    }
    case "egress_withheld": {
      const text = `egress: ${fact.name} is withheld: ${fact.reasons.join(", ")}`;
      return lines(fact.project, fact.workload, null, "warn", text, timeMs);
    }
    case "execution_ended": {
      const { project, workload, run, execution, instance, message, failed } = fact;
      if (message === null) return [];
      const level = failed ? "error" : "info";
      return lines(project, workload, instance, level, message, timeMs).map(({ record }) => ({
        project,
        record: { ...record, invocation: execution, run },
      }));
    }
    default:
      return [];
  }
}

const linesOfAFact = 50;

function lines(
  project: string,
  workload: string,
  instance: string | null,
  level: Level,
  text: string,
  time: number,
): readonly { readonly project: string; readonly record: LogRecord }[] {
  return text.split("\n", linesOfAFact).map((message) => ({
    project,
    record: { time, workload, instance, invocation: null, stream: "ebb", level, message: harmless(message) },
  }));
}
