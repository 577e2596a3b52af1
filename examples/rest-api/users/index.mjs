// Private: the users. Stateless on purpose; a real one would ask a database.
const users = [
  { id: 1, name: "Ada" },
  { id: 2, name: "Grace" },
];

export function GET(request) {
  const id = new URL(request.url).pathname.slice(1);
  if (id === "") return Response.json(users);
  const user = users.find((candidate) => String(candidate.id) === id);
  return user ? Response.json(user) : Response.json({ error: "not found" }, { status: 404 });
}

export async function POST(request) {
  const { name } = await request.json();
  if (typeof name !== "string" || name === "") return Response.json({ error: "name is missing" }, { status: 400 });
  return Response.json({ id: users.length + 1, name }, { status: 201 });
}
