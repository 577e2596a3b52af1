// Every error as problem+json (RFC 9457). What is not an EbbError is a defect: its caller gets an id only.

import type { FastifyError, FastifyReply } from "fastify";
import { EbbError, problemOf } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId } from "#model/ids.ts";

export interface ProblemAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export function answerOf(error: EbbError): ProblemAnswer {
  const headers: Record<string, string> = { "content-type": "application/problem+json" };
  if (error.code === "unauthenticated") headers["www-authenticate"] = 'Bearer realm="ebb"';
  if (error.retryAfterSeconds !== null) headers["retry-after"] = String(error.retryAfterSeconds);
  return { status: error.status, headers, body: JSON.stringify(problemOf(error)) };
}

/** Fastify's own complaints become words of the catalogue; anything else unknown is told as a defect. */
export function knownError(error: unknown, where: string, tell: Tell): EbbError {
  if (error instanceof EbbError) return error;
  if (isFastifyError(error)) {
    if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE")
      return new EbbError("payload_too_large", "the body is larger than 1 MiB");
    if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
      return new EbbError("bad_request", "content-type: expected application/json (an archive: application/gzip)");
    if ((error.statusCode ?? 500) < 500) return new EbbError("bad_request", error.message);
  }
  const errorId = newErrorId();
  tell({ kind: "defect", errorId, where, error });
  return new EbbError("internal", `something failed; the log knows it as ${errorId}`, { extra: { errorId } });
}

export function sendProblem(reply: FastifyReply, error: EbbError): FastifyReply {
  const { status, headers, body } = answerOf(error);
  return reply.code(status).headers(headers).serializer(String).send(body);
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && "code" in error && typeof error.code === "string" && error.code.startsWith("FST_");
}
