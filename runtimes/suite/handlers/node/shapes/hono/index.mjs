// Hono: an instance of a class, whose fetch is a bound property and which has get, post, … beside it.
class Hono {
  routes = new Map();
  get = (path, handler) => (this.routes.set(path, handler), this);
  fetch = (request, env, ctx) => {
    const handler = this.routes.get(new URL(request.url).pathname);
    const c = { req: { raw: request }, env, executionCtx: ctx, text: (text) => new Response(text), json: (value) => Response.json(value) };
    return handler ? handler(c) : new Response("404 Not Found", { status: 404 });
  };
}
const app = new Hono();
app.get("/", (c) => c.text("Hono!"));
export default app;
