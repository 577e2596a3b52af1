// Routes requests, and asks the two private functions of the project. No token is needed between functions of one project.

interface User {
  id: number;
  name: string;
}

const internal = (workload: string, path: string, init?: RequestInit): Promise<Response> =>
  fetch(`${process.env.EBB_INTERNAL_URL}/run/${process.env.EBB_PROJECT}/${workload}${path}`, init);

async function userWithQuote(id: string): Promise<Response> {
  const [user, quote] = await Promise.all([internal("users", `/${id}`), internal("quotes", "/random")]);
  if (!user.ok) return Response.json({ error: `no user ${id}` }, { status: 404 });
  return Response.json({ ...((await user.json()) as User), quote: await quote.text() });
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const user = /^\/users\/(\d+)$/.exec(pathname)?.[1];
    if (request.method === "GET" && user) return userWithQuote(user);
    if (request.method === "GET" && pathname === "/users") return internal("users", "/");
    if (request.method === "POST" && pathname === "/users")
      return internal("users", "/", { method: "POST", body: await request.text() });
    return Response.json({ error: `no route ${request.method} ${pathname}` }, { status: 404 });
  },
};
