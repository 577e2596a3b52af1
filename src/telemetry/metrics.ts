// Counts facts, and writes them in Prometheus's text format (version 0.0.4).

import type { Fact } from "#model/fact.ts";
import type { Outcome } from "#model/invocation.ts";
import type { WorkerCounters } from "./protocol.ts";

/** Series of one metric; what comes beyond is counted under workload="(other)". */
const seriesMost = 5_000;
const others = "(other)";
const startBucketsSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly labels: readonly string[];
  readonly series: Map<string, number>;
}

function family(name: string, help: string, labels: readonly string[]): Family {
  return { name, help, type: "counter", labels, series: new Map() };
}

/** What is counted with every invocation of a workload; written into families only when somebody asks. */
interface WorkloadCounts {
  readonly project: string;
  readonly workload: string;
  readonly outcomes: Partial<Record<Outcome, number>>;
  executionUs: number;
  billedUs: number;
  cold: number;
}

export class Metrics {
  /** By project, then workload. */
  readonly #workloads = new Map<string, Map<string, WorkloadCounts>>();
  #workloadCount = 0;
  readonly #ready = family("ebb_instances_ready_total", "Instances that became ready.", ["project", "workload"]);
  readonly #ahead = family("ebb_instances_ahead_total", "Instances whose sandbox was started ahead.", []);
  readonly #paused = family("ebb_instances_paused_total", "Idle instances that were paused.", []);
  readonly #resumed = family("ebb_instances_resumed_total", "Paused instances that went on for a call.", []);
  readonly #failed = family("ebb_instances_failed_total", "Instances that failed.", ["project", "workload", "fault"]);
  readonly #restarts = family("ebb_restarts_total", "Parts of ebb that had to be started anew.", ["part"]);
  readonly #defects = family("ebb_defects_total", "Unexpected errors inside ebb.", []);
  readonly #startCounts: number[] = Array.from({ length: startBucketsSeconds.length + 1 }, () => 0);
  #startSeconds = 0;

  count(fact: Fact): void {
    switch (fact.kind) {
      case "invocation_ended": {
        const { project, workload, outcome = "ok", executionUs = 0, billedUs = 0, cold = false } = fact.record;
        const counts = this.#countsOf(project, workload);
        counts.outcomes[outcome] = (counts.outcomes[outcome] ?? 0) + 1;
        counts.executionUs += executionUs;
        counts.billedUs += billedUs;
        if (cold) counts.cold++;
        return;
      }
      case "instance_ready": {
        add(this.#ready, [fact.project, fact.workload], 1);
        if (fact.ahead) add(this.#ahead, [], 1);
        const seconds = Object.values(fact.phases).reduce((sum, ms) => sum + ms, 0) / 1000;
        const bucket = startBucketsSeconds.findIndex((limit) => seconds <= limit);
        this.#startCounts[bucket < 0 ? startBucketsSeconds.length : bucket]!++;
        this.#startSeconds += seconds;
        return;
      }
      case "instance_paused":
        return add(this.#paused, [], 1);
      case "instance_resumed":
        return add(this.#resumed, [], 1);
      case "instance_failed":
        return add(this.#failed, [fact.project, fact.workload, fact.failure.fault], 1);
      case "worker_restarted":
        return add(this.#restarts, [fact.worker], 1);
      case "defect":
        return add(this.#defects, [], 1);
      default:
    }
  }

  text(worker: WorkerCounters | null): string {
    const families = [
      ...this.#invocationFamilies(),
      this.#ready,
      this.#ahead,
      this.#paused,
      this.#resumed,
      this.#failed,
      this.#restarts,
      this.#defects,
    ];
    const log: readonly [string, string, number][] = worker
      ? [
          ["ebb_log_read_bytes_total", "Output read from instances.", worker.readBytes],
          ["ebb_log_lines_total", "Log lines kept.", worker.lines],
          ["ebb_log_dropped_lines_total", "Log lines dropped above the rate.", worker.droppedLines],
          ["ebb_log_dropped_bytes_total", "Bytes of dropped log lines.", worker.droppedBytes],
          ["ebb_log_write_errors_total", "Writes of the log that the disk refused.", worker.writeErrors],
        ]
      : [];
    return [
      ...families.flatMap(textOf),
      ...this.#startText(),
      ...log.flatMap(([name, help, value]) => head(name, help, "counter").concat(`${name} ${value}`)),
      "",
    ].join("\n");
  }

  #countsOf(project: string, workload: string): WorkloadCounts {
    const known = this.#workloads.get(project)?.get(workload);
    if (known) return known;
    if (this.#workloadCount >= seriesMost && workload !== others) return this.#countsOf(project, others);
    const counts = { project, workload, outcomes: {}, executionUs: 0, billedUs: 0, cold: 0 };
    const ofProject = this.#workloads.get(project) ?? new Map<string, WorkloadCounts>();
    this.#workloads.set(project, ofProject.set(workload, counts));
    this.#workloadCount++;
    return counts;
  }

  #invocationFamilies(): readonly Family[] {
    const of = ["project", "workload"];
    const invocations = family("ebb_invocations_total", "Invocations that ended.", [...of, "outcome"]);
    const execution = family("ebb_invocation_seconds_total", "Time from hand-over to end.", of);
    const billed = family("ebb_billed_seconds_total", "Billed time.", of);
    const cold = family("ebb_cold_starts_total", "Invocations that waited for a start.", of);
    for (const ofProject of this.#workloads.values())
      for (const counts of ofProject.values()) {
        const key = [counts.project, counts.workload];
        for (const [outcome, count] of Object.entries(counts.outcomes)) add(invocations, [...key, outcome], count);
        if (counts.executionUs > 0) add(execution, key, counts.executionUs / 1e6);
        if (counts.billedUs > 0) add(billed, key, counts.billedUs / 1e6);
        if (counts.cold > 0) add(cold, key, counts.cold);
      }
    return [invocations, execution, billed, cold];
  }

  #startText(): readonly string[] {
    const name = "ebb_start_seconds";
    let sum = 0;
    const buckets = this.#startCounts.map((count, i) => {
      sum += count;
      return `${name}_bucket{le="${startBucketsSeconds[i] ?? "+Inf"}"} ${sum}`;
    });
    const help = "Time from asking for an instance until it is ready.";
    return [...head(name, help, "histogram"), ...buckets, `${name}_sum ${this.#startSeconds}`, `${name}_count ${sum}`];
  }
}

/** Values are names of ours (letters, digits, hyphens): no separator can be in them. */
function add(to: Family, values: readonly string[], amount: number): void {
  let key = values.join("\0");
  const before = to.series.get(key);
  if (before === undefined && to.series.size >= seriesMost)
    key = values.map((value, i) => (to.labels[i] === "workload" ? others : value)).join("\0");
  to.series.set(key, (to.series.get(key) ?? 0) + amount);
}

function head(name: string, help: string, type: string): readonly string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

function textOf({ name, help, type, labels, series }: Family): readonly string[] {
  const rows = [...series].map(([key, value]) => {
    const values = key.split("\0");
    const pairs = labels.map((label, i) => `${label}="${escape(values[i] ?? "")}"`).join(",");
    return `${name}${pairs === "" ? "" : `{${pairs}}`} ${value}`;
  });
  return [...head(name, help, type), ...rows];
}

function escape(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
