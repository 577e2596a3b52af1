// The smallest function: a Request in, a Response out.
export default function hello(request) {
  const name = new URL(request.url).searchParams.get("name") ?? "world";
  console.log(`greeting ${name}`);
  return new Response(`${process.env.GREETING ?? "Hello"}, ${name}!\n`);
}
