// Next.js route handlers, also Vercel's web functions.
export async function GET(request) {
  return Response.json({ got: new URL(request.url).pathname });
}
export async function POST(request) {
  const data = await request.json();
  return new Response(`posted ${data.name}`, { status: 201 });
}
