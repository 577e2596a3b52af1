// Step 7: what the workload speaks, against what is asked of it: what one version of HTTP cannot carry is refused in words before
// it costs an instance.

import { EbbError } from "#model/errors.ts";
import { protocolOf } from "#model/workload.ts";
import { isGrpc } from "../grpc.ts";
import type { Inbound, StepContext } from "../inbound.ts";

export function fitProtocol(inbound: Inbound, { mirror }: StepContext): EbbError | null {
  const { destination, request } = inbound;
  if (destination?.kind !== "workload") return null;
  const grpc = isGrpc(request.rawHeaders);
  if (!grpc && !inbound.upgrade) return null;
  const { project, workload } = destination;
  const revision = mirror.workload(project, workload)?.revision;
  if (!revision) return null;
  const speaksHttp2 = protocolOf(revision) === "h2c";
  if (inbound.upgrade)
    return speaksHttp2
      ? new EbbError("http_version", `${workload} speaks HTTP/2 (protocol: h2c), where a WebSocket cannot be had.`)
      : null;
  if (!speaksHttp2)
    return new EbbError(
      "http_version",
      `${workload} speaks HTTP/1.1, which cannot carry gRPC; a container that serves it says protocol: h2c in ebb.yaml.`,
    );
  if (request.http2 === undefined)
    return new EbbError("http_version", `gRPC wants HTTP/2 from its client too: ${workload} was asked by HTTP/1.1.`);
  return null;
}
