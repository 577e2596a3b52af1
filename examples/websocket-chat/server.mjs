import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const rooms = new Map();
const sockets = new WebSocketServer({ noServer: true, maxPayload: 16 * 1024 });

function join(socket, room, name) {
  const others = rooms.get(room) ?? new Set();
  rooms.set(room, others);
  others.add(socket);
  const say = (text) => {
    for (const one of others) one.send(text);
  };
  console.log(`${name} joins ${room}`);
  say(`* ${name} is here, with ${others.size - 1} others`);
  socket.on("message", (data) => say(`${name}: ${data}`));
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    others.delete(socket);
    if (others.size === 0) rooms.delete(room);
    say(`* ${name} has left`);
  });
}

const page = `<!doctype html><title>chat</title><input autofocus placeholder="say"><pre></pre><script>
const name = prompt("Who are you?") || "somebody";
const socket = new WebSocket(location.origin.replace("http", "ws") + location.pathname + "?name=" + encodeURIComponent(name));
const [input, lines] = [document.querySelector("input"), document.querySelector("pre")];
socket.onmessage = ({ data }) => (lines.textContent += data + "\\n");
input.onchange = () => (socket.send(input.value), (input.value = ""));
</script>`;

createServer((request, response) => {
  response.setHeader("content-type", "text/html; charset=utf-8").end(page);
})
  .on("upgrade", (request, socket, head) => {
    // The path is the room.
    const { pathname, searchParams } = new URL(request.url, "http://chat");
    sockets.handleUpgrade(request, socket, head, (joined) =>
      join(joined, pathname, searchParams.get("name") ?? "somebody"),
    );
  })
  .listen(process.env.PORT);
