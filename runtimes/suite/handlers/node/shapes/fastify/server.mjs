// Fastify, the real one: listens with await at load.
import { createRequire } from "node:module";
const fastify = createRequire(process.env.TEST_RESOLVE_FROM)("fastify");
const app = fastify();
app.get("/", async () => ({ hello: "fastify" }));
app.post("/", async (request) => ({ got: request.body }));
await app.listen({ port: Number(process.env.PORT) });
