// As Koa's own page has it.
const Koa = require("koa");
const app = new Koa();
app.use(async (ctx, next) => {
  await next();
  ctx.set("x-response-time", "0ms");
});
app.use(async (ctx) => {
  ctx.body = ctx.path === "/json" ? { koa: true } : "Hello Koa";
});
app.listen(process.env.PORT || 3000);
