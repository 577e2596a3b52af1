// Every bound of ebb, in one place: none is unlimited, and the unit is last in the name.

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

export const functionDefaults = {
  memoryMb: 256,
  timeoutSeconds: 300,
  concurrency: 1,
  min: 0,
  max: 20,
  idleSeconds: 60,
  /** vCPU for each MiB of memory where `cpu` is left out. */
  cpuPerMb: 0.00055,
} as const;

export const containerDefaults = {
  memoryMb: 512,
  cpu: 1,
  timeoutSeconds: 300,
  concurrency: 80,
  min: 0,
  max: 5,
  idleSeconds: 60,
  port: 8080,
} as const;

/** Beside those of functions, which hold for containers as well. */
export const containerBounds = {
  port: { min: 1, max: 65_535 },
  writableMb: { min: 1, max: 65_536 },
  imageChars: 512,
  probePathChars: 1_024,
} as const;

export const functionBounds = {
  memoryMb: { min: 32, max: 65_536 },
  cpu: { min: 0.01, max: 64 },
  timeoutSeconds: { min: 1, max: 3_600 },
  concurrency: { min: 1, max: 1_000 },
  instances: { min: 0, max: 1_000 },
  idleSeconds: { min: 0, max: 86_400 },
  /** Of `scaling`: cpuPercent and memoryPercent. At 100 it would never be asked for more. */
  scalingPercent: { min: 5, max: 95 },
  envCount: 256,
  envBytes: 32 * 1024,
  secretsCount: 64,
  egressEntries: 64,
  commandArgs: 64,
} as const;

/** Class gvisor: its kernel, file server and runsc stand in the instance's own cgroup. */
export const gvisorLimits = {
  leastMemoryMb: 64,
} as const;

export const jobDefaults = {
  memoryMb: 512,
  cpu: 1,
  timeoutSeconds: 86_400,
  retries: 0,
  parallelism: 1,
} as const;

export const jobBounds = {
  timeoutSeconds: { min: 1, max: 86_400 },
  retries: { min: 0, max: 10 },
  parallelism: { min: 1, max: 100 },
} as const;

export const jobLimits = {
  /** Runs of a project that have not ended; more are refused. */
  openRunsPerProject: 10_000,
  /** What these hold in memory and on the disk: their settings, their own environment, their tasks. */
  openRunsBytesPerProject: 64 * MiB,
  /** Ended runs of a job that are kept, the newest. */
  endedRunsKept: 1_000,
  runsPerQuery: 1_000,
  /** Of what one answer is made of; a list of runs that hold more ends there. */
  queryBytes: 8 * MiB,
  /** What a run may say in the place of the job's own. */
  overrideBytes: 32 * KiB,
  /** Of what a task writes to /ebb/result; more is not kept. */
  resultBytes: 16 * MiB,
  /** All results of a project, and how many; the oldest go first. */
  resultsBytesPerProject: 1 * GiB,
  resultsPerProject: 10_000,
  /** Between SIGTERM and SIGKILL, at a stop, a timeout, and the stop of ebb. */
  stopGraceMs: 5_000,
  /** Before the next attempt after one that failed: doubles, up to the longest. */
  retryFirstMs: 1_000,
  retryMaxMs: 300_000,
  /** Starts of one task that the platform failed, in a row; then it has failed. */
  platformTries: 10,
  /** The process that keeps runs through ebb's death stays so long after the last of them. */
  supervisorIdleMs: 10_000,
  /** An answer about a run waits so long for its end. */
  waitMaxSeconds: 60,
} as const;

/** Of workloads that scale by what their instances use. */
export const samplingLimits = {
  /** How often what they use is looked at, while something runs in them. */
  everyMs: 1_000,
  /** Instances of a workload that are looked at, the oldest; they stand for the others. */
  instancesEach: 32,
  /** Of all workloads together; those that find none left are looked at a second later. */
  instancesPerSecond: 1_000,
} as const;

export const httpLimits = {
  requestHeadBytes: 64 * 1024,
  requestHeaderCount: 200,
  requestTargetBytes: 16 * 1024,
  responseHeadBytes: 64 * 1024,
  responseHeaderCount: 200,
  /** 0 would be unlimited; this is "as large as a disk", refused early by content-length and late by count. */
  requestBodyBytes: 1024 * GiB,
  bufferedBodyBytes: 6 * MiB,
  /**
   * Of what a client sends behind its head while nobody takes it yet: so much is read, for its end is seen by reading alone;
   * more stays in its socket. One read may bring as much again.
   */
  sentAheadBytes: 64 * 1024,
  /** What a piece of it counts for beside its bytes. */
  sentAheadPieceBytes: 128,
  /** Of bodies on all connections of a listener together: then those that wait stay in their sockets, and more with a body do not wait. */
  sentAheadInAllBytes: 64 * MiB,
  /** Of one client address or project, once half of that is held. */
  sentAheadEachBytes: 4 * MiB,
  /** A body of so much may wait all the same. */
  sentAheadSmallBytes: 1_024,
  apiBodyBytes: 1 * MiB,
  headersTimeoutMs: 20_000,
  keepAliveTimeoutMs: 65_000,
  /** Of each listener, the public one and ebb.internal's; when they are all taken, one that carries no request gives way. */
  connections: 20_000,
  /** Of the files that ebb may have open (`ulimit -n`), for the connections of each listener; the rest is for its instances and files. */
  openFilesShare: { public: 0.7, internal: 0.15 },
  /**
   * Of a listener's connections, for one client address (with IPv6, one /64) or one project on ebb.internal: with more it has
   * only what nobody else wants. A proxy of --trust-proxy has no such share: its connections are those of many.
   */
  connectionsEachShare: 0.05,
  /** Of whole answers that clients have not read yet, by HTTP/2: then whoever has some is let in again when they are read. */
  unreadInAllBytes: 64 * MiB,
  /** Of one client address or project, once half of that is held. */
  unreadEachBytes: 4 * MiB,
  /** How long a browser may go by what a preflight was answered. */
  preflightAgeSeconds: 600,
} as const;

/** Beside those of HTTP/1.1. Of one client's connection, where nothing else is said. */
export const http2Limits = {
  /** Requests at a time. */
  concurrentStreams: 128,
  /** New requests, in the long run and at once. */
  streamsPerSecond: 10_000,
  streamsBurst: 10_000,
  /** Requests that were broken off, by the client or because of what it sent: each costs a start for nothing. */
  resetsPerSecond: 20,
  resetsBurst: 200,
  /** Of these so many times as much, where the connection is a trusted proxy's: it carries the requests of many clients. */
  ofManyClientsTimes: 50,
  /** PING and SETTINGS frames, each of which has to be answered. */
  controlFramesPerSecond: 20,
  controlFramesBurst: 100,
  /** Frames that are wrong or empty, and requests beyond those at a time; with more the connection ends. */
  invalidFrames: 100,
  rejectedStreams: 100,
  /** What a request's body may have under way, and of all its bodies together. */
  streamWindowBytes: 64 * KiB,
  connectionWindowBytes: 1 * MiB,
  /** What node:http2 holds for it in all, heads and frames that wait included. */
  sessionMemoryMb: 10,
  settingsPerFrame: 32,
  trailersCount: 64,
  trailersBytes: 16 * KiB,
  /** Of a container's connections with `protocol: h2c`: requests at a time on one, and how much of an answer is under way. */
  instanceStreams: 1_000,
  instanceWindowBytes: 256 * KiB,
  /** What is kept of a request's body, to be sent again where the instance says that it has not looked at it. */
  replayBytes: 64 * KiB,
  replays: 3,
} as const;

export const waitingLimits = {
  perWorkload: 1_000,
  inAll: 10_000,
  deadlineMs: 30_000,
} as const;

export const callDepthMax = 16;

export const deployLimits = {
  archiveBytes: 512 * MiB,
  unpackedBytes: 2 * GiB,
  entries: 100_000,
  transpileFiles: 10_000,
  transpileBytes: 16 * MiB,
  transpileOutputBytes: 128 * MiB,
  transpileSeconds: 60,
  transpileMemoryMb: 512,
  pathBytes: 1_024,
  pathDepth: 64,
  /** Unpacked bytes to archive bytes; a bomb's is in the thousands. */
  expansionRatio: 200,
  functionsPerApp: 200,
  /** Names that one deploy removes: as many as an app file could have declared before. */
  prunedAtOnce: 200,
  appFileBytes: 1 * MiB,
  loadSeconds: 30,
  revisionsKept: 20,
  /** Deploys of one project that wait for the one that runs. */
  deploysWaiting: 20,
  /** Uploads of all projects together: each may take unpackedBytes of disk. */
  uploadsAtOnce: 32,
  /** Of those with a token of one project: nobody keeps the others from deploying. */
  uploadsPerProject: 8,
  /** An upload of which nothing comes for so long is given up, and so is one that takes longer in all. */
  uploadStallMs: 30_000,
  uploadMs: 3_600_000,
  changesWaiting: 200,
  /** Functions of one deploy that are built and load-checked at a time. */
  functionsAtOnce: 4,
  /** Of a load check's output and stack, shown to the author. */
  checkOutputBytes: 8 * 1024,
  collectAfterMs: 60_000,
} as const;

/** Compiled code that a load check tells ebb, for the starts after it; more, or less, is not kept. */
export const loadCacheLimits = {
  /** As it is told, gzipped. */
  packedBytes: 8 * MiB,
  unpackedBytes: 32 * MiB,
  files: 8_192,
  /** Less is loaded as fast from its source, where that is not larger either. */
  fewestBytes: 64 * 1024,
  /** How long a check waits for it, when it has answered all else. */
  tellMs: 15_000,
} as const;

/** OCI images, which come from anywhere. */
export const imageLimits = {
  /** Of one ARG of a build with its name: the kernel takes no longer word of a command. */
  argumentBytes: 128 * 1024,
  /** As a registry or an archive has it. */
  compressedBytes: 8 * GiB,
  unpackedBytes: 24 * GiB,
  /** Files, folders and links of all layers. */
  entries: 1_000_000,
  /** As many as overlayfs lays over each other with room for ebb's own. */
  layers: 120,
  /** Of a build: what it stands on. */
  bases: 32,
  /** Files and folders of a fetch before they are unpacked: its blobs, and what is beside them. */
  stagedFiles: 2_000,
  manifestBytes: 1 * MiB,
  configBytes: 4 * MiB,
  pathBytes: 4_095,
  pathDepth: 128,
  workingDirectoryBytes: 1_024,
  /** User and group ids below this: those that a sandbox has. */
  ids: 65_536,
  referenceChars: 512,
  /** Of a pull or a load; one of which nothing comes for so long is given up. */
  fetchMs: 3_600_000,
  stallMs: 60_000,
  /** Where the manifest is asked for. */
  inspectMs: 60_000,
  unpackMs: 1_800_000,
  /** Of each of buildah's steps: the base taken over, the build, the result handed on. And of all that a build runs, with what is in between. */
  buildMs: 1_800_000,
  /** Of a RUN: memory, and of that what it may write. On a small machine half of what all sandboxes have. */
  runMemoryMb: 2_048,
  runWritableBytes: 1_536 * MiB,
  runWritableShare: 0.75,
  /** Where a layer is made of what it wrote. */
  packMs: 600_000,
  /** Of what they print: so many lines of a build, of such a length, are told, and the end of each is kept. */
  runLinesTold: 2_000,
  runLineChars: 400,
  runOutputKeptChars: 4_000,
  fetchesAtOnce: 4,
  /** Beside these, one of a project. */
  buildsAtOnce: 4,
  fetchesWaiting: 64,
  unpacksAtOnce: 2,
  progressEveryMs: 1_000,
  /** Of the disk, what no image may take: the larger of the two. */
  diskKeptBytes: 512 * MiB,
  diskKeptShare: 0.02,
  /** A fetched image that no revision names yet stays for so long: its deploy is on its way. */
  collectAfterMs: 600_000,
} as const;

/** What is kept of the commands of builds, beside the images: what nobody has used for long goes, and a full disk takes all of it first. */
export const stepCacheLimits = {
  bytesPerProject: 4 * GiB,
  bytesInAll: 16 * GiB,
  perProject: 2_000,
  unusedMs: 14 * 24 * 3_600_000,
} as const;

export const sandboxLimits = {
  /** A runtime's root that was not started from for so long is removed at the next start of ebb; made again, where it is asked for. */
  rootUnusedDays: 30,
  pids: 512,
  openFiles: 1_024,
  fileBytes: 1 * GiB,
  /** tmpfs: counts against the sandbox's memory. */
  tmpBytes: 512 * MiB,
  /** /dev/shm, a tmpfs as well. */
  sharedMemoryBytes: 64 * MiB,
  startMs: 30_000,
  /** Of these, what an image's program has to serve: then it is told what was missing. */
  programStartMs: 28_000,
  stopGraceMs: 5_000,
  /** Of an image's /etc/passwd and /etc/group each. */
  accountsBytes: 1 * MiB,
  controlLineBytes: 64 * 1024,
  /** Of a runtime's words to ebb: a line, or 64 bytes, is one. Some 12,000 "done" a second; more waits. */
  controlUnitsPerSecond: 20_000,
  controlUnitsBurst: 40_000,
} as const;

export const probeLimits = {
  /** What one has for its answer. */
  answerMs: 2_000,
  /** Between two, until an image serves. */
  startupPauseMs: 50,
  /** Between two of an instance that serves, and how many in a row end it. */
  livenessEveryMs: 10_000,
  livenessFailures: 3,
} as const;

export const machineLimits = {
  /** Left to the machine itself: the larger of the two. */
  reservedMemoryBytes: 512 * MiB,
  reservedMemoryShare: 0.15,
  /** Starts at a time: so many for each core, and the fewest. A boot is a core's work; the link, the disk, the engine and the kernel keep it waiting. */
  startsPerCore: 3,
  fewestStarts: 6,
  /** What a start takes, where none has been measured yet. */
  typicalStartMs: 150,
  /** Of these, how long one has its turn: some times what a boot takes beside three others. It goes on without it. */
  startTurnMs: 3_000,
} as const;

/** Instances that are held still between calls. */
export const pauseLimits = {
  /** Idle for so long, where the operator says nothing. */
  afterSeconds: 5,
  afterSecondsMax: 86_400,
  /** Each takes up to 0.2 ms of the main thread: where many fall idle together it does something else in between. */
  atOnce: 4,
  paceMs: 10,
} as const;

/** Sandboxes that are kept ready without code. */
export const poolLimits = {
  /** What one counts for while nobody has taken it: a Node that has warmed up (18 MiB of its own, the kernel's for it included) and its engine's process. */
  sandboxBytes: 20 * MiB,
  /** Of the machine's memory, where the operator says nothing. */
  budgetShare: 0.02,
  /** Of a kind that some revision would start. */
  fewest: 1,
  /** Starts within so long are a crowd, for which as many are kept. */
  windowMs: 10_000,
  /** After so long half a crowd is expected. */
  halfLifeMs: 600_000,
  lookAgainMs: 60_000,
  /** How long one has to take its code; then it is thrown away, and another is started. */
  takeWithinMs: 2_000,
  /** Behind the end of a start. */
  settleAfterMs: 20,
  /** Between two that are made; after a failure it doubles, up to the longest pause. */
  paceMs: 100,
  pauseMaxMs: 60_000,
  /** More than the first of a kind are made where so many CPUs are idle, or after so long all the same. */
  idleCpus: 0.5,
  heldMaxMs: 30_000,
} as const;

/** Keeping instances by how their workload is called. */
export const keepAliveLimits = {
  /** A cold start that is spared is worth so much time of an idle instance, and a start ahead of a call costs so much. */
  coldStartWorthMs: 120_000,
  startWorthMs: 30_000,
  /** Pauses that must have lasted for so long before anything but the default is done from there on. */
  evidence: 8,
  /** Pauses are told apart from this length to that one, by a 12th of an octave (6%). */
  pauseMinMs: 990,
  pauseMaxMs: 4 * 3_600_000,
  stepsPerOctave: 12,
  /** Counted of a workload; then the old ones count half. */
  pausesSeen: 255,
  /** An instance is idle for at most so long at a time. */
  keepMaxMs: 600_000,
  /** Workloads whose pauses are remembered (0.9 KB each): of more, those that were called last. */
  workloads: 10_000,
  /** Where there is no room for a start ahead of a call: how often it is tried, and after how long again. */
  startTries: 5,
  startAgainMs: 1_000,
} as const;

export const logLimits = {
  lineBytes: 16 * 1024,
  /** A frame's line on the third FIFO. */
  frameBytes: 128 * 1024,
  /** A file of a project's log; retention deletes whole files. */
  segmentBytes: 8 * MiB,
  /** Lines that wait for the disk, of all projects; more are dropped and counted. */
  pendingBytes: 32 * MiB,
  /** The last lines of an instance, kept in memory for what a failed start shows. */
  tailLines: 100,
  tailBytes: 64 * 1024,
  /** Instances that are gone and whose last lines are still kept. */
  tailsKept: 256,
  /** Ids of an instance's invocations that frames and marks may name after their end, at most; half of them at least. */
  idsRemembered: 4_096,
  /** Lines that one query answers. */
  queryLines: 10_000,
  /** Lines that one follower gets at once; it is told of more. */
  followLines: 1_000,
  bytesPerSecond: 1 * MiB,
  burstBytes: 4 * MiB,
  /** Of a run, what has been written and not been read into the log: while ebb is away it waits; more is lost, and counted. */
  keptSegmentBytes: 4 * MiB,
  keptSegments: 16,
  /** So long output gathers in its pipes (64 KiB each) before it is read, where no more than so much came at once. */
  gatherMs: 5,
  gatheredBytes: 16 * 1024,
  /** From the reading of a line until it is written. */
  flushMs: 100,
  /** The same of a line before which nothing came for a while. */
  firstFlushMs: 5,
  /** A part of it: so long a line waits for its invocation's id, which is told apart from it, and some milliseconds late. */
  idToldWithinMs: 30,
  keptDays: 14,
  keptBytesPerProject: 1 * GiB,
} as const;

export const recordLimits = {
  keptDays: 14,
  totalsKeptMonths: 25,
  keptBytesPerProject: 1 * GiB,
  /** What one record takes on the disk with its indexes, by estimate. */
  recordBytes: 400,
  deletedPerStep: 2_000,
  /** A pass of retention deletes at most this share of time, so that a clock that jumps erases nothing. */
  deletedPerPassDays: 1,
  passEveryMs: 3_600_000,
} as const;

export const accessLimits = {
  tokensPerProject: 1_000,
  secretsPerProject: 1_000,
  secretBytes: 64 * 1024,
  projects: 1_000,
  workloadsPerProject: 100_000,
  shortTokenMs: 15 * 60_000,
  shortTokens: 10_000,
  tokenNameChars: 64,
  tokenLifeDays: 3_650,
} as const;

export const apiLimits = {
  /** Log streams that are open at a time. */
  followers: 200,
  followBufferBytes: 1 * MiB,
  followBeatMs: 15_000,
} as const;

export const quotaBounds = {
  egressPermits: 32,
  memoryMb: { min: 32, max: 16_777_216 },
  instances: { min: 0, max: 100_000 },
  ratePerSecond: { min: 1, max: 1_000_000 },
} as const;

export const lifecycle = {
  /** Of the 10 s in which ebb is gone; the rest is for taking down what still ran, many at once and on a busy machine. */
  drainMs: 8_000,
  /** What is still being sent when all has ended, after the drain. */
  closeMs: 250,
  markEveryMs: 1_000,
  fsyncEveryMs: 200,
  workerRestartsPerMinute: 3,
} as const;

export const storeLimits = {
  /** Requests to the store's worker that wait for an answer; more are refused. */
  inFlight: 4_096,
  queryRows: 10_000,
  /** Hourly totals that are answered at a time: some ms of the store's worker, and of the main loop. */
  usageRows: 1_000,
  /** Workloads that are read at a time when a store is opened: some ms of the main loop. */
  partWorkloads: 1_000,
  auditsKept: 1_000_000,
  /** Shared memory between the journal's writer and its keeper. */
  journalSharedBytes: 64,
  restartDelayMs: 200,
} as const;

export const journalLimits = {
  /** To what the time of a span is rounded up. */
  spanQuantumUs: 1_000,
  segmentBytes: 8 * MiB,
  /** What the main thread makes itself when the worker is late: small, because it waits for it. */
  lateSegmentBytes: 256 * KiB,
  /** After a segment could not be made: how long until it is tried again. */
  retryAfterMs: 250,
  /** Read, folded and committed at a time: some thousand invocations, 10 to 20 ms of the store's thread, for which a command may wait. */
  loadBytes: 128 * KiB,
  loadEveryMs: 1_000,
  /** The keeper is woken so long after a first mark: behind the first call, whose core its thread would take. */
  wakeAfterMs: 20,
  /** How often idle instances of `min` are counted. */
  tickEveryMs: 60_000,
} as const;

export const linkLimits = {
  /** Links kept ready for each kind of egress when nothing happens, and at most after a burst. */
  spareMin: 4,
  spareMax: 64,
  /** Opened by one change of the rules. */
  batch: 4,
  batchesAtOnce: 2,
  retryAfterMs: 1_000,
  /** Takes of this long are expected again. */
  demandWindowMs: 10_000,
  /** So long, and so many in all, links through which no packet has gone are kept for the next run of their job. */
  restMs: 2_000,
  rested: 16,
  connections: 2_048,
  newConnectionsPerSecond: 500,
  newConnectionsBurst: 1_000,
  internalConnectionsPerSecond: 500,
  /** Open at a time to ebb.internal and the resolver, of one sandbox: all share one listener. */
  internalConnections: 512,
  commandMs: 20_000,
  /** Of what one instance sends to the world, and of what it gets, where the operator says nothing; and at once. */
  bytesPerSecond: 125_000_000,
  burstBytes: 16 * MiB,
  /** What --egress-rate may say, in Mbit/s. */
  egressRateMbits: { min: 1, max: 1_000_000 },
  /** How often the way to the internet is looked at (a laptop changes networks). */
  uplinkEveryMs: 15_000,
} as const;

export const resolverLimits = {
  queryBytes: 1_232,
  /** RFC 9715: what is not fragmented on the way. */
  datagramBytes: 1_232,
  upstreamBytes: 16 * 1024,
  records: 128,
  queriesPerSecond: 5_000,
  /** Of one sandbox in the long run, so that it takes many to use up what all may ask; and at once. */
  queriesPerSourcePerSecond: 100,
  queriesPerSourceBurst: 400,
  /** Questions that wait for the host's resolvers, each by a socket of its own at most: when they are all taken, the project with most gives way. */
  waiting: 1_024,
  waitingPerSource: 64,
  attemptMs: 1_500,
  attempts: 4,
  cacheEntries: 4_096,
  /** A larger answer is not kept. */
  cacheEntryBytes: 2_048,
  ttlSeconds: { min: 1, max: 3_600 },
  negativeTtlSeconds: { min: 1, max: 300 },
  ownTtlSeconds: 60,
  hostDomainsKeptMs: 5_000,
  /** How long an address that was answered for a name of an allow-list is open, at least and at most. */
  openSeconds: { min: 60, max: 3_600 },
  /** Addresses and ports that are open so for one instance; of more, those that end first give way. */
  openings: 256,
  openingsInAll: 262_144,
  /** Names of which an instance's log says that they were withheld. */
  withheldNamesTold: 32,
  /** Of all; the project with most gives way. */
  tcpConnections: 128,
  tcpConnectionsPerSource: 8,
  tcpIdleMs: 5_000,
  tcpQueriesPerConnection: 100,
} as const;
