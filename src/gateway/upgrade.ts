// Connections that leave HTTP (WebSocket): the head of the switch, and then bytes both ways until either side ends.

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

/** Only WebSocket is passed on; any other upgrade is ignored and the request answered as it is (RFC 9110, 7.8). */
export function asksForUpgrade(request: IncomingMessage): boolean {
  return request.method === "GET" && request.headers.upgrade?.toLowerCase() === "websocket";
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
