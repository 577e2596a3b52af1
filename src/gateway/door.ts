// The front: listens, checks and routes requests, and writes the answers. Never starts a sandbox.

export interface Gateway {
  /** Listens; resolves with the port that is really listened on. EbbError conflict when it is taken. */
  listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>;
  /** http://ebb.internal: the caller is known by its address on the link. */
  /**
   * On loopback, for sandboxes without a link: EBB_INTERNAL_URL is then `http://HOST:PORT/_/CREDENTIAL`, or the
   * credential comes in the header ebb-credential.
   */
  listenInternal(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>;
  /** Takes no new connection, lets the open ones end. */
  close(graceMs: number): Promise<void>;
}

// What createGateway (gateway.ts) wants of daemon.ts:
//   access, activator, mirror, clock, tell       the rooms, and the clock
//   platform                                     api's handler for /api/… and /metrics
//   identifyLink(address)                        network's and fleet's knowledge: the Identity of the instance at that
//                                                address of a link (project and instance set, scope invoke); null: nobody
//   baseUrl, trustProxy, version, openFilesMax   of config.ts

/** A request for the platform itself (/api/v1, /metrics): handled by the API, in node:http's own terms. */
export type PlatformHandler = (
  request: import("node:http").IncomingMessage,
  response: import("node:http").ServerResponse,
  /** Scheme, host and client as the outermost trusted proxy saw them: what Origin is compared with. */
  context?: {
    readonly outer: { readonly scheme: "http" | "https"; readonly host: string; readonly forwardedFor: string };
  },
) => void;
