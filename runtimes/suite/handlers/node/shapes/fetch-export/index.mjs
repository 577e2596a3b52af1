// fetch as an export of its own.
export function fetch(request) {
  return new Response(`fetched ${new URL(request.url).searchParams.get("q")}`);
}
