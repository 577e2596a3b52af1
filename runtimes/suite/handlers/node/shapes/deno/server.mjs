// Deno Deploy, Netlify, Bun: a default function of the request.
export default async (request) => new Response(`deno ${request.method} ${await request.text()}`);
