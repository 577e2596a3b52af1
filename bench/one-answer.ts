// One request on a connection of its own, and the time to its answer's last byte: the client of every cold start, floor and ebb alike.

import { connect } from "node:net";

/** Where the server listens: a Unix socket, or a port of 127.0.0.1. */
export type Server = { readonly path: string } | { readonly port: number };

/** The whole answer, head and body; null: there was none. */
export function oneAnswer(server: Server, host: string): Promise<string | null> {
  return new Promise((resolve) => {
    const connection = connect("path" in server ? { path: server.path } : { port: server.port, host: "127.0.0.1" });
    connection.write(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    let answer = "";
    connection.setEncoding("latin1");
    connection.on("data", (text: string) => (answer += text));
    connection.on("close", () => resolve(answer === "" ? null : answer));
    connection.on("error", () => {});
  });
}
