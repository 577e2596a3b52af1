// Many clients in a process of their own: opens as many connections as argv says, and sends on all of them what it is told.

import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** To the crowd: what each of its connections sends, and whether it is answered. */
export interface Order {
  readonly text: string;
  readonly answered: boolean;
}

/** From the crowd. `done`: the order was carried out, or before the first one, all are connected. `left`: all are closed. */
export type Report = "done" | "left";

const atOnce = 250;

async function inWaves(sockets: readonly Socket[], act: (socket: Socket) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < sockets.length; at += atOnce) await Promise.all(sockets.slice(at, at + atOnce).map(act));
}

const [port, count] = process.argv.slice(2).map(Number);
const report = (what: Report): void => void process.send!(what);
const sockets: Socket[] = [];
let open = 0;
while (open < count!) {
  const wave = Array.from({ length: Math.min(atOnce, count! - open) }, () => connect(port!, "127.0.0.1"));
  await Promise.all(wave.map((socket) => once(socket, "connect")));
  open += wave.length;
  sockets.push(...wave);
}
for (const socket of sockets) {
  socket.on("error", () => undefined).resume();
  socket.on("close", () => --open === 0 && report("left"));
}
process.on("message", ({ text, answered }: Order) => {
  void inWaves(sockets, async (socket) => {
    const answer = answered ? once(socket, "data") : null;
    socket.write(text);
    await answer;
  }).then(() => report("done"));
});
report("done");
