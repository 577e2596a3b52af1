// The catalogue of errors: one code, one status, one fault, one way on. docs/reference/errors.md is generated from it.

/** Whose fault it is decides who is told what: the caller, the author of the function, or the operator of ebb. */
export type Fault = "caller" | "function" | "platform";

export interface ErrorKind {
  readonly status: number;
  readonly fault: Fault;
  readonly title: string;
  /** What the one at fault can do about it. */
  readonly remedy: string;
}

function kind(status: number, fault: Fault, title: string, remedy: string): ErrorKind {
  return { status, fault, title, remedy };
}

export const errorKinds = {
  bad_request: kind(400, "caller", "The request cannot be read", "Correct what the detail names."),
  bad_host: kind(400, "caller", "The Host header is missing, repeated or malformed", "Send exactly one Host header."),
  invalid_app: kind(400, "caller", "The app file is wrong", "Correct the line that is named."),
  invalid_archive: kind(
    400,
    "caller",
    "The archive cannot be unpacked safely",
    "Send regular files, folders and relative links that stay inside.",
  ),
  invalid_name: kind(
    400,
    "caller",
    "The name is not allowed",
    "Use lower-case letters, digits and hyphens, starting with a letter.",
  ),
  unauthenticated: kind(
    401,
    "caller",
    "No valid token",
    "Send a token: the header ebb-token for workloads, Authorization: Bearer for the API.",
  ),
  token_in_authorization: kind(
    401,
    "caller",
    "An ebb token was sent in Authorization",
    "Authorization belongs to the function's code; send ebb's token in the header ebb-token.",
  ),
  forbidden: kind(
    403,
    "caller",
    "The token does not allow this",
    "Use a token with the scope and project that the detail names.",
  ),
  not_found: kind(404, "caller", "There is no such thing", "Check the name and the project."),
  image_not_found: kind(
    404,
    "caller",
    "The image is not there, or may not be read",
    "Check its name and tag; a private one needs its registry's login.",
  ),
  method_not_allowed: kind(405, "caller", "The method is not allowed here", "See the header allow."),
  request_timeout: kind(408, "caller", "The request did not arrive in time", "Send the whole head at once."),
  conflict: kind(409, "caller", "It is in the way of something that exists", "Read the detail."),
  payload_too_large: kind(413, "caller", "The body is too large", "Send less, or stream to a handler that streams."),
  uri_too_long: kind(414, "caller", "The request target is too long", "Shorten it."),
  expectation_failed: kind(417, "caller", "The expectation cannot be met", "Leave out the header expect."),
  misdirected: kind(421, "caller", "No workload answers at this host", "Check the host name, or start ebb with --url."),
  deploy_refused: kind(
    422,
    "function",
    "The code does not load",
    "Correct what the detail shows; the old revision goes on serving.",
  ),
  image_refused: kind(
    422,
    "function",
    "The image cannot be used",
    "Correct what the detail names; the old revision goes on serving.",
  ),
  precondition_required: kind(
    428,
    "caller",
    "The request asks for something that needs consent",
    "Repeat it with the confirmation that the detail names.",
  ),
  rate_limited: kind(
    429,
    "caller",
    "The project's rate is used up",
    "Wait as long as retry-after says, or raise the project's rate.",
  ),
  over_quota: kind(
    429,
    "caller",
    "The project's quota is used up",
    "Wait, free something, or raise the project's quota.",
  ),
  headers_too_large: kind(431, "caller", "The request's head is too large", "Send fewer or shorter headers."),
  function_error: kind(500, "function", "The function failed", "Read its log: ebb logs NAME --invocation ID."),
  internal: kind(
    500,
    "platform",
    "Something in ebb failed",
    "Give the operator the id in the detail; the log has the rest.",
  ),
  out_of_memory: kind(502, "function", "The instance ran out of memory", "Raise memoryMb."),
  instance_exited: kind(
    502,
    "function",
    "The instance ended while it was answering",
    "Read its log: ebb logs NAME --invocation ID.",
  ),
  bad_response: kind(502, "function", "The function's answer is not HTTP", "Read its log; correct what it sends."),
  registry_failed: kind(
    502,
    "platform",
    "The registry does not give the image",
    "Repeat later; if it goes on, look at the registry that the detail names.",
  ),
  start_failed: kind(502, "function", "The function does not start", "Read its log: ebb logs NAME."),
  platform_lost_instance: kind(502, "platform", "ebb lost the instance while it was answering", "Repeat the request."),
  capacity: kind(
    503,
    "platform",
    "The machine has no memory left for another instance",
    "Repeat later, lower memoryMb, or use a bigger machine.",
  ),
  queue_full: kind(503, "caller", "Too many requests wait for this workload", "Repeat later, or raise max."),
  queue_timeout: kind(503, "platform", "No instance became free in time", "Repeat later, or raise max."),
  crash_loop: kind(
    503,
    "function",
    "The function keeps failing to start",
    "Read its log: ebb logs NAME; deploy a revision that starts.",
  ),
  store_unavailable: kind(503, "platform", "ebb's store is restarting", "Repeat in a second."),
  storage_full: kind(503, "platform", "ebb's disk is full", "Free space on the disk that holds the data directory."),
  data_directory: kind(
    500,
    "platform",
    "The data directory cannot be used",
    "Do what the detail says, or give another --data.",
  ),
  stopping: kind(503, "platform", "ebb is stopping", "Repeat when it is back."),
  timeout: kind(504, "function", "The function did not finish in time", "Raise timeoutSeconds, or make it faster."),
  http_version: kind(
    505,
    "caller",
    "This cannot be had in this version of HTTP",
    "Do what the detail says: another version of HTTP, or protocol: in ebb.yaml.",
  ),
  loop: kind(
    508,
    "function",
    "Functions call each other in a loop",
    "Calls deeper than the limit are refused; break the loop.",
  ),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

/** An error whose words are meant for the one at fault. Anything else that is thrown is a defect: its caller gets an id only. */
export class EbbError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterSeconds: number | null;
  /** Members that problem+json carries beside the standard ones (RFC 9457, section 3.2); never a secret. */
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { retryAfterSeconds?: number; extra?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "EbbError";
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
    this.extra = options.extra ?? {};
  }

  get kind(): ErrorKind {
    return errorKinds[this.code];
  }

  get status(): number {
    return errorKinds[this.code].status;
  }
}

/** RFC 9457. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: ErrorCode;
  detail: string;
  remedy: string;
  [extra: string]: unknown;
}

export function problemOf(error: EbbError): Problem {
  const { status, title, remedy } = error.kind;
  return {
    ...error.extra,
    type: `https://ebb.dev/errors/${error.code}`,
    title,
    status,
    code: error.code,
    detail: error.message,
    remedy,
  };
}
