// Listens only after something asynchronous, as an application with a database does; a metrics port comes first.
const http = require("node:http");
async function main() {
  http.createServer((req, res) => res.end("metrics")).listen(0);
  await new Promise((resolve) => setImmediate(resolve));
  http.createServer((req, res) => res.end("the real one")).listen({ port: process.env.PORT, host: "0.0.0.0" });
}
main();
