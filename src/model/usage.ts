// What ran, added up: one row an hour, a project and a workload.

export interface UsageTotal {
  readonly project: string;
  readonly workload: string;
  /** Epoch ms of the hour's begin, UTC. */
  readonly hourMs: number;
  readonly requests: number;
  readonly errors: number;
  readonly billedUs: number;
  /** Memory times billed time: MiB x microseconds. */
  readonly memoryMbUs: number;
  readonly cpuNs: number;
  /** Idle `min` instances: time and memory that were provisioned and not active. */
  readonly provisionedUs: number;
  readonly provisionedMbUs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** Both together, as of the workload and hour of `a`. */
export function addUsage(a: UsageTotal, b: UsageTotal): UsageTotal {
  return {
    ...a,
    requests: a.requests + b.requests,
    errors: a.errors + b.errors,
    billedUs: a.billedUs + b.billedUs,
    memoryMbUs: a.memoryMbUs + b.memoryMbUs,
    cpuNs: a.cpuNs + b.cpuNs,
    provisionedUs: a.provisionedUs + b.provisionedUs,
    provisionedMbUs: a.provisionedMbUs + b.provisionedMbUs,
    bytesIn: a.bytesIn + b.bytesIn,
    bytesOut: a.bytesOut + b.bytesOut,
  };
}
