// What the API takes and gives: one schema checks, types and documents.

import type { TSchema } from "typebox";
import { deployLimits, jobLimits } from "#model/limits.ts";
import { Type } from "./type.ts";

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const strict = { additionalProperties: false } as const;

/** Names are judged by control/, whose sentences say more than a pattern; here only their size is bounded. */
const Name = Type.String({ minLength: 1, maxLength: 255 });
const Time = Type.String({ description: "RFC 3339, UTC" });
const Count = Type.Integer({ minimum: 0 });
const ScopeName = Type.Union([
  Type.Literal("admin"),
  Type.Literal("deploy"),
  Type.Literal("read"),
  Type.Literal("invoke"),
]);

export const InProject = Type.Object({ project: Name });
export const OfWorkload = Type.Object({ project: Name, workload: Name });
export const OfSecret = Type.Object({ project: Name, secret: Name });
export const OfToken = Type.Object({ id: Name });
export const OfProjectToken = Type.Object({ project: Name, id: Name });
export const OfRun = Type.Object({ project: Name, run: Name });
export const OfInvocation = Type.Object({ project: Name, id: Name });

const since = Type.Optional(Type.Integer({ minimum: 0, description: "epoch milliseconds" }));
/** Of a query: one of it is no array. */
const repeated = <T extends TSchema>(schema: T, maxItems: number, description: string) =>
  Type.Optional(Type.Union([Type.Array(schema, { maxItems }), schema], { description }));
const limit = (most: number, usual: number) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: most, default: usual }));

export const RecordQuery = Type.Object({ since, limit: limit(10_000, 100) }, strict);
export const AuditQuery = Type.Object({ since, limit: limit(10_000, 100) }, strict);
export const UsageQuery = Type.Object({ since, until: since }, strict);
export const LogQuery = Type.Object(
  {
    workload: Type.Optional(Name),
    invocation: Type.Optional(Type.String({ maxLength: 40 })),
    run: Type.Optional(Type.String({ maxLength: 40 })),
    since,
    limit: limit(100_000, 1_000),
    follow: Type.Optional(
      Type.Boolean({ description: "NDJSON of what is written from now on, until the client leaves" }),
    ),
  },
  strict,
);
export const DeployQuery = Type.Object(
  {
    project: Type.Optional(Name),
    name: Type.Optional(Name),
    folderName: Type.Optional(Name),
    memoryMb: Type.Optional(Type.Integer({ minimum: 1 })),
    env: repeated(Type.String({ maxLength: 32_768 }), 256, "KEY=VALUE, repeated"),
    public: Type.Optional(Type.Boolean()),
    prune: repeated(
      Name,
      deployLimits.prunedAtOnce,
      "a workload that is to be removed with this deploy, repeated; it must not be declared in ebb.yaml",
    ),
    noCache: Type.Optional(Type.Boolean({ description: "images are built anew, whatever is kept of earlier builds" })),
    gitCommit: Type.Optional(Type.String({ maxLength: 80 })),
  },
  strict,
);
export const RemoveProjectQuery = Type.Object({ everything: Type.Optional(Type.Boolean()) }, strict);

export const NewProject = Type.Object({ name: Name }, strict);
const Quota = Nullable(Type.Integer());
export const NewProjectSettings = Type.Object(
  {
    memoryMb: Type.Optional(Quota),
    instances: Type.Optional(Quota),
    ratePerSecond: Type.Optional(Quota),
    egressPermit: Type.Optional(
      Nullable(
        Type.Array(Type.String({ maxLength: 100 }), {
          description: "networks that are not public and may be reached, as 10.1.0.0/16:5432; in place of those before",
        }),
      ),
    ),
  },
  strict,
);
export const RollbackBody = Type.Object({ revision: Type.Optional(Nullable(Type.Integer({ minimum: 1 }))) }, strict);
export const SecretBody = Type.Object({ value: Type.String() }, strict);
export const NewToken = Type.Object(
  {
    name: Name,
    scope: ScopeName,
    expiresMs: Type.Optional(Nullable(Type.Integer({ minimum: 0, description: "epoch milliseconds; null: never" }))),
  },
  strict,
);

export const NewRun = Type.Object(
  {
    env: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: "over the job's own; what the job says stays otherwise",
      }),
    ),
    args: Type.Optional(Nullable(Type.Array(Type.String(), { description: "in the place of the job's own" }))),
    memoryMb: Type.Optional(Nullable(Type.Integer())),
    parallelism: Type.Optional(Nullable(Type.Integer())),
  },
  strict,
);
export const RunsQuery = Type.Object({ limit: limit(jobLimits.runsPerQuery, 100) }, strict);
export const RunQuery = Type.Object(
  { waitSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: jobLimits.waitMaxSeconds })) },
  strict,
);
export const ResultQuery = Type.Object(
  { index: Type.Optional(Type.Integer({ minimum: 0, description: "of the task; 0 where nothing is said" })) },
  strict,
);
const Integer = Nullable(Type.Integer());
const RunStateName = Type.String({
  description: "queued, running, retrying, stopping; succeeded, failed, stopped or interrupted",
});
const RunReasonName = Nullable(
  Type.String({
    description:
      "error, timeout, memory, stopped, interrupted, not_started, image_not_found, invalid_image, capacity or over_quota",
  }),
);
export const TaskRow = Type.Object({
  index: Count,
  state: RunStateName,
  reason: RunReasonName,
  message: Nullable(Type.String()),
  attempts: Count,
  invocation: Nullable(Type.String({ description: "of the last attempt: its record's, and its log lines'" })),
  instance: Nullable(Type.String()),
  started: Nullable(Time),
  ended: Nullable(Time),
  notBefore: Nullable(Time),
  exitCode: Integer,
  resultBytes: Integer,
});
export const RunRow = Type.Object({
  id: Type.String(),
  project: Type.String(),
  workload: Type.String(),
  revision: Count,
  state: RunStateName,
  reason: RunReasonName,
  message: Nullable(Type.String()),
  created: Time,
  createdBy: Type.String(),
  started: Nullable(Time),
  ended: Nullable(Time),
  exitCode: Integer,
  env: Type.Array(Type.String(), { description: "names of what the run says itself" }),
  args: Type.Array(Type.String()),
  memoryMb: Count,
  tasks: Type.Array(TaskRow),
});

export const Version = Type.Object({ name: Type.Literal("ebb"), version: Type.String(), api: Type.Literal("v1") });
export const IdentityView = Type.Object({ name: Type.String(), project: Nullable(Type.String()), scope: ScopeName });
export const ProjectView = Type.Object({
  name: Type.String(),
  created: Time,
  workloads: Count,
  quotas: Type.Object({ memoryMb: Quota, instances: Quota, ratePerSecond: Quota }),
  egressPermit: Type.Array(Type.String(), { description: "networks that may be reached beside public addresses" }),
});
export const WorkloadRow = Type.Object({
  project: Type.String(),
  kind: Type.String(),
  name: Type.String(),
  revision: Count,
  state: Type.String({ description: "ready, building, failed, crash_loop, capacity or over_quota" }),
  isolation: Type.String({ description: "container, gvisor, or none: nothing is isolated" }),
  instances: Type.Integer({ description: "running ones" }),
  paused: Type.Integer({ description: "those of them that are held still until somebody calls" }),
  url: Nullable(Type.String()),
  pathUrl: Nullable(Type.String()),
  triggers: Type.Array(Type.Unknown()),
  public: Type.Boolean(),
  max: Count,
  nextStart: Nullable(Type.String({ description: "no start is tried before, since the last ones failed" })),
  scaling: Nullable(
    Type.Object({
      by: Type.String({ description: "requests, cpu or memory" }),
      target: Type.Integer({
        description: "requests in flight that an instance is for, or percent of what it may use",
      }),
      percent: Nullable(Type.Number({ description: "used on average when it was looked at last" })),
      last: Nullable(
        Type.Object(
          { time: Time, from: Count, to: Count, reasons: Type.Array(Type.String()) },
          {
            description: "the last change of how many are wanted, and why",
          },
        ),
      ),
    }),
  ),
  lastActive: Nullable(Time),
  errorsLastHour: Type.Integer({ description: "a sliding hour, estimated from hourly totals" }),
});
export const InstanceRow = Type.Object({
  id: Type.String(),
  revision: Count,
  state: Type.String(),
  isolation: Type.String(),
  memoryMb: Count,
  started: Time,
  active: Count,
});
export const WorkloadView = Type.Object({
  ...WorkloadRow.properties,
  runtime: Nullable(Type.String()),
  image: Nullable(Type.String()),
  settings: Type.Record(Type.String(), Type.Object({ value: Type.Unknown(), source: Type.String() })),
  instanceList: Type.Array(InstanceRow),
  waiting: Count,
  active: Count,
  starting: Count,
  draining: Count,
  lastError: Nullable(
    Type.Object({
      time: Time,
      fault: Type.String(),
      message: Type.String(),
      stack: Nullable(Type.String()),
      hint: Nullable(Type.String()),
    }),
  ),
  deployedBy: Type.String(),
  deployed: Time,
  gitCommit: Nullable(Type.String()),
});
export const RevisionRow = Type.Object({
  revision: Count,
  current: Type.Boolean(),
  created: Time,
  createdBy: Type.String(),
  gitCommit: Nullable(Type.String()),
  runtime: Nullable(Type.String()),
  image: Nullable(Type.String()),
  codeDigest: Nullable(Type.String()),
  imageDigest: Nullable(Type.String()),
});
export const InvocationRow = Type.Object({
  id: Type.String(),
  time: Time,
  workload: Type.String(),
  trigger: Type.String(),
  outcome: Type.String(),
  status: Nullable(Type.Integer()),
  cold: Type.Boolean(),
  queuedMs: Type.Number(),
  startMs: Type.Number(),
  durationMs: Type.Number(),
  billedMs: Type.Number(),
  memoryMb: Type.Number(),
  cpuMs: Nullable(Type.Number()),
  bytesIn: Type.Number(),
  bytesOut: Type.Number(),
  instance: Nullable(Type.String()),
  revision: Nullable(Type.Integer()),
});
export const LogRow = Type.Object({
  time: Time,
  workload: Type.String(),
  invocation: Nullable(Type.String()),
  stream: Type.String(),
  level: Type.String(),
  message: Type.String(),
});
export const SecretRow = Type.Object({ name: Type.String(), version: Count, updated: Time });
export const SecretSet = Type.Object({ version: Count, replaced: Type.Array(Type.String()) });
export const TokenRow = Type.Object({
  id: Type.String(),
  name: Type.String(),
  project: Nullable(Type.String()),
  scope: ScopeName,
  created: Time,
  expires: Nullable(Time),
});
export const MintedToken = Type.Object({ id: Type.String(), token: Type.String({ description: "shown once" }) });
export const ShortToken = Type.Object({ token: Type.String(), expires: Time });
export const UsageRow = Type.Object({
  project: Type.String(),
  workload: Type.String(),
  day: Type.String({ description: "YYYY-MM-DD, UTC" }),
  requests: Type.Number(),
  errors: Type.Number(),
  billedMs: Type.Number(),
  gbSeconds: Type.Number(),
  vcpuSeconds: Type.Number(),
  provisionedSeconds: Type.Number(),
  provisionedGbSeconds: Type.Number(),
  bytesIn: Type.Number(),
  bytesOut: Type.Number(),
});
export const UsageView = Type.Object({
  rows: Type.Array(UsageRow),
  oldestRecord: Nullable(Time),
  keptDays: Type.Integer(),
});
export const AuditRow = Type.Object({
  time: Time,
  identity: Type.String(),
  command: Type.String(),
  project: Nullable(Type.String()),
  target: Nullable(Type.String()),
  outcome: Type.String(),
  detail: Type.String(),
});
export const DeployResultRow = Type.Object({
  source: Type.String(),
  workload: Type.String(),
  project: Type.String(),
  revision: Count,
  before: Nullable(Type.Integer()),
  unchanged: Type.Boolean(),
  kind: Type.String(),
  runtime: Nullable(Type.String()),
  entry: Nullable(Type.String()),
  handler: Nullable(Type.String()),
  signature: Nullable(Type.String()),
  image: Nullable(Type.String()),
  imageDigest: Nullable(Type.String()),
  command: Nullable(Type.Array(Type.String())),
  public: Type.Boolean(),
  url: Nullable(Type.String()),
  pathUrl: Nullable(Type.String()),
});
export const Deployed = Type.Object({
  results: Type.Array(DeployResultRow, { maxItems: deployLimits.functionsPerApp }),
  kept: Type.Array(Type.String(), { maxItems: deployLimits.prunedAtOnce }),
  keptMore: Count,
  removed: Type.Array(Type.String()),
});
export const Status = Type.Object({
  version: Type.String(),
  instances: Type.Object({ running: Count, starting: Count }),
  memoryBytes: Type.Number(),
  memoryLimitBytes: Type.Number(),
  /** Sandboxes that are started ahead, without code; their memory is apart from the rest. */
  pool: Type.Object({ sandboxes: Count, memoryBytes: Type.Number() }),
});
export const LoopDelayQuery = Type.Object(
  { seconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 60 })) },
  strict,
);
export const LoopDelayView = Type.Object({
  p50Ms: Type.Number(),
  p99Ms: Type.Number(),
  maxMs: Type.Number(),
  samples: Type.Integer(),
});
export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.String(),
    detail: Type.String(),
    remedy: Type.String(),
  },
  { description: "RFC 9457, with a stable code", additionalProperties: true },
);
