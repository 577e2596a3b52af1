import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { Greeter } from "./service.mjs";

const implementation = {
  greet({ request: { name } }, answer) {
    if (name === "") return answer({ code: status.INVALID_ARGUMENT, details: "who are you?" });
    const trailers = new Metadata();
    trailers.set("letters", String(name.length));
    answer(null, { text: `Hello, ${name}!` }, trailers);
  },

  async count(call) {
    const { to, everyMs } = call.request;
    for (let value = 1; value <= to && !call.cancelled; value++) {
      if (!call.write({ value })) await new Promise((resolve) => call.once("drain", resolve));
      if (everyMs > 0) await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
    if (call.cancelled) console.log("nobody listens any more");
    else call.end();
  },

  sum(call, answer) {
    let value = 0;
    call.on("data", (number) => (value += number.value));
    call.on("end", () => answer(null, { value }));
  },

  greetAll(call) {
    call.on("data", ({ name }) => call.write({ text: `Hello, ${name}!` }));
    call.on("end", () => call.end());
  },
};

/** Resolves with the server and its port. */
export function serve(address) {
  const server = new Server();
  server.addService(Greeter.service, implementation);
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve({ server, port }),
    );
  });
}

if (import.meta.main) {
  const { server } = await serve(`0.0.0.0:${process.env.PORT ?? 8080}`);
  process.on("SIGTERM", () => server.tryShutdown(() => process.exit(0)));
}
