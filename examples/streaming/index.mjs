// Server-sent events: one tick a second, until `count` or until the client goes.
export default {
  fetch(request) {
    const parameters = new URL(request.url).searchParams;
    const count = Math.min(Number(parameters.get("count") ?? 10), 60);
    const everyMs = Math.max(Number(parameters.get("everyMs") ?? 1000), 10);
    let sent = 0;
    let timer;
    const ticks = new ReadableStream({
      start(controller) {
        const tick = () => {
          sent += 1;
          controller.enqueue(new TextEncoder().encode(`event: tick\ndata: ${sent}\n\n`));
          if (sent < count) return;
          clearInterval(timer);
          controller.close();
        };
        timer = setInterval(tick, everyMs);
        tick();
      },
      cancel() {
        clearInterval(timer);
        console.log(`the client left after ${sent} ticks`);
      },
    });
    return new Response(ticks, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
  },
};
