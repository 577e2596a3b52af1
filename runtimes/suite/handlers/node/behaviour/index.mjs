// Every behaviour that the suite asks for, as a web handler.
const state = { produced: 0, go: null, release: null };

async function pipe(request) {
  const upper = new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase()));
    },
  });
  return new Response(request.body.pipeThrough(upper));
}

function flood(total) {
  let left = total;
  state.produced = 0;
  return new Response(
    new ReadableStream({
      pull(controller) {
        const size = Math.min(left, 64 * 1024);
        if (size === 0) return controller.close();
        left -= size;
        state.produced += size;
        controller.enqueue(new Uint8Array(size));
      },
    }),
  );
}

async function slurp(request) {
  state.go = Promise.withResolvers();
  console.log("slurping");
  await state.go.promise;
  let total = 0;
  for await (const chunk of request.body) total += chunk.byteLength;
  return new Response(String(total));
}

function hang(request) {
  console.log("hanging");
  return new Promise((resolve) => {
    request.signal.addEventListener("abort", () => {
      console.log("aborted");
      resolve(new Response("nobody reads this"));
    });
  });
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const { pathname, searchParams } = url;
    if (pathname === "/echo") {
      const headers = { "content-type": request.headers.get("content-type") ?? "text/none", "x-method": request.method, "x-in": request.headers.get("x-in") ?? "" };
      return new Response(await request.arrayBuffer(), { headers });
    }
    if (pathname === "/cookies") {
      const headers = new Headers([["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-one", "1"]]);
      return new Response("created", { status: 201, headers });
    }
    if (pathname === "/none") return new Response(null, { status: 204 });
    if (pathname === "/pipe") return pipe(request);
    if (pathname === "/flood") return flood(Number(searchParams.get("bytes")));
    if (pathname === "/produced") return new Response(String(state.produced));
    if (pathname === "/slurp") return slurp(request);
    if (pathname === "/go") {
      state.go.resolve();
      return new Response("went");
    }
    if (pathname === "/hang") return hang(request);
    if (pathname === "/throw") throw new Error("boom in the handler");
    if (pathname === "/throw-late") {
      return new Response(
        new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode("first"));
          },
          pull() {
            throw new Error("boom in the stream");
          },
        }),
      );
    }
    if (pathname === "/env") return new Response(process.env[searchParams.get("name")] ?? "unset");
    if (pathname === "/print") {
      console.log(`out ${searchParams.get("text")}`);
      console.error(`err ${searchParams.get("text")}`);
      return new Response("printed");
    }
    if (pathname === "/print-long") {
      console.log("x".repeat(Number(searchParams.get("chars"))));
      return new Response("printed");
    }
    if (pathname === "/child") {
      const { spawnSync } = await import("node:child_process");
      spawnSync(process.execPath, ["-p", "'from the child'"], { stdio: "inherit" });
      return new Response("spawned");
    }
    if (pathname === "/meet") {
      // Answers when two are here: only possible where both run at once.
      console.log(`arrived ${searchParams.get("who")}`);
      const waiting = state.release;
      if (waiting === null) await new Promise((resolve) => (state.release = resolve));
      else {
        state.release = null;
        waiting();
      }
      await null;
      console.log(`met ${searchParams.get("who")}`);
      return new Response("met");
    }
    if (pathname === "/wait-until") {
      state.go = Promise.withResolvers();
      ctx.waitUntil(state.go.promise.then(() => console.log("waited")));
      return new Response("early");
    }
    if (pathname === "/die") {
      setImmediate(() => {
        throw new Error("boom outside");
      });
      return new Promise(() => {});
    }
    if (pathname === "/exit") process.exit(7);
    return new Response("not found", { status: 404 });
  },
};
