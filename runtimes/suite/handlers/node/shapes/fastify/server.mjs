// Fastify listens with await at load.
import fastify from "fastify";
const app = fastify();
app.get("/", async () => ({ hello: "fastify" }));
app.post("/", async (request) => ({ got: request.body }));
await app.listen({ port: Number(process.env.PORT) });
