// The way in where no descriptor can be passed to the shim (CONTRACT.md, 1): it listens on a port of its own link, and serves only
// connections that begin with the credential which came by its stdin.

import { frames } from "./output.mjs";

/** @import { Server, Socket } from "node:net" */

const fs = process.getBuiltinModule("node:fs");
const framesPath = "/ebb/frames";
/** In which a connection shows its credential. */
const showMs = 5_000;
const credentialBytes = 256;

/**
 * @param {Server} listener whose connections come paused
 * @param {string} port @param {(socket: Socket) => void} serve @param {() => void} listening
 */
export function listenByTcp(listener, port, serve, listening) {
  const credential = readLine();
  // Where there would be one that ends; the lowest number is taken.
  fs.closeSync(0);
  fs.openSync("/dev/null", "r");
  try {
    frames.fd = fs.openSync(framesPath, fs.constants.O_WRONLY);
  } catch {
    // Concurrency 1 has no use for them.
  }
  listener.on("connection", (socket) => admit(socket, credential, serve));
  listener.listen(Number(port), "0.0.0.0", listening);
}

/** Byte by byte: what comes behind it is nobody's yet. */
function readLine() {
  const bytes = Buffer.alloc(credentialBytes);
  let length = 0;
  while (length < credentialBytes && fs.readSync(0, bytes, length, 1, null) === 1) {
    if (bytes[length] === 10) return bytes.subarray(0, length + 1);
    length++;
  }
  throw new Error("no credential came by stdin");
}

/** Handed on as it came: paused, with nothing read of what follows. @param {Socket} socket @param {Buffer} credential @param {(socket: Socket) => void} serve */
function admit(socket, credential, serve) {
  socket.setNoDelay();
  const late = setTimeout(() => socket.destroy(), showMs);
  const ended = () => {
    clearTimeout(late);
    socket.destroy();
  };
  const look = () => {
    const shown = /** @type {Buffer | null} */ (socket.read(credential.length));
    if (shown === null) return;
    clearTimeout(late);
    socket.off("readable", look);
    socket.off("error", ended);
    socket.off("end", ended);
    socket.pause();
    if (shown.equals(credential)) serve(socket);
    else socket.destroy();
  };
  socket.on("readable", look);
  socket.on("error", ended);
  socket.on("end", ended);
}
