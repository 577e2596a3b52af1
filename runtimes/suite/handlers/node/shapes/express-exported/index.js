// Express in small: an application that is a function, has a property `handle`, changes the prototypes and is exported.
const http = require("node:http");
function express() {
  const app = (req, res, next) => app.handle(req, res, next);
  const routes = [];
  app.get = (path, handler) => (routes.push({ path, handler }), app);
  app.request = Object.create(http.IncomingMessage.prototype);
  app.response = Object.create(http.ServerResponse.prototype, {
    send: { value: function (text) { this.setHeader("content-length", Buffer.byteLength(text)); this.end(text); } },
  });
  app.handle = (req, res) => {
    Object.setPrototypeOf(req, app.request);
    Object.setPrototypeOf(res, app.response);
    const route = routes.find(({ path }) => path === req.url.split("?")[0]);
    if (route) route.handler(req, res);
    else res.writeHead(404).end();
  };
  app.listen = (...args) => http.createServer(app).listen(...args);
  return app;
}
const app = express();
app.get("/", (req, res) => res.send("Hello from Express"));
module.exports = app;
