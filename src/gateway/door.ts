// The front: listens, checks and routes requests, and writes the answers. Never starts a sandbox.

export interface Gateway {
  /** Listens; resolves with the port that is really listened on. EbbError conflict when it is taken. */
  listen(host: string, port: number): Promise<{ readonly host: string; readonly port: number }>;
  /** http://ebb.internal: the caller is known by its address on the link. */
  listenInternal(host: string, port: number): Promise<void>;
  /** Takes no new connection, lets the open ones end. */
  close(graceMs: number): Promise<void>;
}

/** A request for the platform itself (/api/v1, /metrics): handled by the API, in node:http's own terms. */
export type PlatformHandler = (
  request: import("node:http").IncomingMessage,
  response: import("node:http").ServerResponse,
) => void;
