// POST / with an address answers a link, GET /CODE leads there, GET /CODE/visits says how often it did.
import { createServer } from "node:http";
import postgres from "postgres";
import { addressOf, newCode } from "./link.mjs";

const sql = postgres(process.env.DATABASE_URL, { max: 4, connect_timeout: 5, onnotice: () => {} });

async function bodyOf(request) {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) if ((body += chunk).length > 4000) break;
  return body;
}

async function save(address) {
  for (;;) {
    const made = await sql`
      insert into links (code, address) values (${newCode()}, ${address}) on conflict do nothing returning code`;
    if (made.length === 1) return made[0].code;
  }
}

async function answer(request) {
  const [, code, what] = new URL(request.url, "http://links").pathname.split("/");
  if (request.method === "POST" && code === "") {
    const address = addressOf(await bodyOf(request));
    if (address === undefined) return [400, { error: "an address of http or https, of 2000 characters at most" }];
    return [201, { code: await save(address), address }];
  }
  if (request.method !== "GET") return [405, { error: "GET and POST" }];
  if (code === "healthz") return [200, await sql`select 1 as database`];
  if (what === "visits") {
    const [link] = await sql`select address, visits from links where code = ${code}`;
    if (link) return [200, link];
  } else if (what === undefined) {
    const [link] = await sql`update links set visits = visits + 1 where code = ${code} returning address`;
    if (link) return [302, link, { location: link.address }];
  }
  return [404, { error: "no such link" }];
}

const server = createServer(async (request, response) => {
  let [status, body, headers] = [500, { error: "it has failed" }, {}];
  try {
    [status, body, headers = {}] = await answer(request);
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(`${JSON.stringify(body)}\n`);
});

// Several may begin at once; "if not exists" alone does not hold then.
await sql.begin(async (once) => {
  await once`select pg_advisory_xact_lock(1)`;
  await once`create table if not exists links (code text primary key, address text not null, visits int not null default 0)`;
});
server.listen(process.env.PORT ?? 8080, () => console.log(`serves on ${server.address().port}`));
process.on("SIGTERM", () => server.close(() => sql.end({ timeout: 5 })));
