// Notes in PostgreSQL: GET /, POST / with the text, DELETE /ID. Connections are kept while the instance lives.
import postgres from "postgres";

const sql = postgres(process.env.DATABASE_URL, {
  max: 4,
  connect_timeout: 5,
  onnotice: () => {},
});
/** The table, made with the first request; tried again where that failed. */
let table;

async function withTable() {
  table ??= sql`create table if not exists notes (id serial primary key, text text not null)`;
  await table.catch((error) => {
    table = undefined;
    throw error;
  });
}

export async function GET() {
  await withTable();
  return Response.json(await sql`select id, text from notes order by id`);
}

export async function POST(request) {
  const text = await request.text();
  if (text === "" || text.length > 10_000) return Response.json({ error: "1 to 10000 characters" }, { status: 400 });
  await withTable();
  const [note] = await sql`insert into notes (text) values (${text}) returning id, text`;
  return Response.json(note, { status: 201 });
}

export async function DELETE(request) {
  const id = Number(new URL(request.url).pathname.slice(1));
  if (!Number.isSafeInteger(id)) return Response.json({ error: "no such note" }, { status: 404 });
  await withTable();
  const { count } = await sql`delete from notes where id = ${id}`;
  return new Response(null, { status: count === 1 ? 204 : 404 });
}
