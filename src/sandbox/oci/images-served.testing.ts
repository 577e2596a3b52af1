// The program of tests' images: a server that evaluates what it is sent.

const server = `
import { createRequire } from "node:module";
import fs from "node:fs";
const { createServer } = process.getBuiltinModule("node:http");
const require = createRequire("/srv/");
const code = (run) => { try { run(); return null; } catch (error) { return error.code; } };
globalThis.asked = 0;
createServer((request, response) => {
  if (request.url === "/ready") {
    asked += 1;
    response.statusCode = asked > Number(process.env.NOT_READY ?? 0) ? 200 : 503;
    return response.end();
  }
  try {
    response.end(JSON.stringify(eval(decodeURIComponent(request.url.slice(1))) ?? null));
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
}).listen(Number(process.env.PORT));
`;

export const served = ["node", "/srv/serve.mjs"];
export const serve = { "srv/serve.mjs": server };
