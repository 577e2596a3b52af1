// Koa in small: an object with callback() and listen().
const http = require("node:http");
class Koa {
  middleware = [];
  use(call) { this.middleware.push(call); return this; }
  callback() {
    return async (req, res) => {
      const ctx = { req, res, body: undefined, status: 404 };
      for (const call of this.middleware) await call(ctx, async () => {});
      res.statusCode = ctx.body === undefined ? ctx.status : 200;
      res.end(ctx.body);
    };
  }
  listen(...args) { return http.createServer(this.callback()).listen(...args); }
}
const app = new Koa();
app.use(async (ctx) => { ctx.body = "Hello Koa"; });
app.listen(Number(process.env.PORT));
