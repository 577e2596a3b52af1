// Cloudflare Workers.
export default {
  async fetch(request, env, ctx) {
    ctx.waitUntil(Promise.resolve());
    return new Response(`${env.GREETING} from ${new URL(request.url).hostname}`);
  },
};
