// gRPC as far as the front knows of it: which requests it is, and how its clients are told what ebb has to say. Pure.

import type { EbbError } from "#model/errors.ts";

/** application/grpc and its forms; grpc-web is another protocol, which needs nothing of HTTP/2. Names in any case. */
export function isGrpc(rawHeaders: readonly string[]): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === 12 && name.toLowerCase() === "content-type") return isGrpcType(rawHeaders[i + 1]!);
  }
  return false;
}

function isGrpcType(value: string): boolean {
  return /^application\/grpc(?:$|[+;\s])/i.test(value);
}

/** gRPC's codes (doc/statuscodes.md) for what HTTP says with a status; those of the proxy's own errors, so "try again" stays true. */
const codes: Readonly<Record<number, number>> = {
  400: 3, // INVALID_ARGUMENT
  401: 16, // UNAUTHENTICATED
  403: 7, // PERMISSION_DENIED
  404: 12, // UNIMPLEMENTED
  405: 12,
  408: 4,
  413: 8, // RESOURCE_EXHAUSTED
  421: 12,
  429: 8,
  431: 8,
  500: 13, // INTERNAL
  502: 14, // UNAVAILABLE
  503: 14,
  504: 4, // DEADLINE_EXCEEDED
  505: 12,
  508: 9, // FAILED_PRECONDITION
};
const unknown = 2;

/** A head that is the whole answer ("trailers only"). */
export function grpcAnswer(error: EbbError, invocation: string | undefined): string[] {
  const headers = ["content-type", "application/grpc", "grpc-status", String(codes[error.status] ?? unknown)];
  headers.push("grpc-message", percentEncoded(`${error.code}: ${error.message}`));
  if (invocation !== undefined) headers.push("ebb-invocation-id", invocation);
  return headers;
}

/** Bytes of UTF-8; printable ASCII but for % as it is. */
function percentEncoded(text: string): string {
  let encoded = "";
  for (const byte of Buffer.from(text, "utf8"))
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return encoded;
}
