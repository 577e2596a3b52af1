// Connections that leave HTTP (WebSocket): the head of the switch, and then bytes both ways until either side ends.

import type { Duplex } from "node:stream";
import type { RequestHead } from "./http1/request-parser.ts";

/** Only WebSocket is passed on; any other upgrade is ignored and the request answered as it is (RFC 9110, 7.8). */
export function asksForUpgrade({ method, rawHeaders, keepAlive }: RequestHead): boolean {
  if (method !== "GET" || !keepAlive) return false;
  let protocol = "";
  let connection = "";
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    // The few that matter, by their length first: this is asked of every request.
    if (name.length === 7 && name.toLowerCase() === "upgrade") protocol = rawHeaders[i + 1]!.toLowerCase();
    else if (name.length === 10 && name.toLowerCase() === "connection")
      connection += `,${rawHeaders[i + 1]!.toLowerCase()}`;
  }
  return protocol === "websocket" && connection.split(",").some((option) => option.trim() === "upgrade");
}

export function switchingHead(headers: readonly string[]): string {
  let text = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}

/** With back-pressure; a side that ends lets the other finish, a side that breaks takes the other along. */
export function join(client: Duplex, instance: Duplex): void {
  const cut = (): void => {
    client.destroy();
    instance.destroy();
  };
  client.on("error", cut);
  instance.on("error", cut);
  // An instance that has gone has nothing more to say; a client that has gone is nobody to say it to.
  client.on("close", () => instance.destroy());
  instance.on("close", () => client.end());
  client.pipe(instance);
  instance.pipe(client);
}
