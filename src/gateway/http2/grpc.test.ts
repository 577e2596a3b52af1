// The example's gRPC service and a client of grpc-js, with the gateway and the activator between them.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test, { after, before } from "node:test";
import { credentials, Metadata, status, type ClientReadableStream, type ServiceError } from "@grpc/grpc-js";
import { http2Revision, until } from "#activator/world.testing.ts";
import { EbbError } from "#model/errors.ts";
import { Front } from "../front.testing.ts";

interface Greeter {
  greet(name: { name: string }, answered: Answered<{ text: string }>): EmittingCall;
  greet(
    name: { name: string },
    metadata: Metadata,
    options: object,
    answered: Answered<{ text: string }>,
  ): EmittingCall;
  count(range: { to: number; everyMs?: number }): ClientReadableStream<{ value: number }>;
  sum(answered: Answered<{ value: number }>): { write(number: { value: number }): boolean; end(): void };
  greetAll(): ClientReadableStream<{ text: string }> & { write(name: { name: string }): boolean; end(): void };
  close(): void;
}
type Answered<T> = (error: ServiceError | null, answer: T) => void;
interface EmittingCall {
  on(event: "status", listener: (status: { metadata: Metadata }) => void): void;
}
type GreeterClass = new (address: string, credentials: unknown, options: object) => Greeter;
interface GreeterServer {
  forceShutdown(): void;
}

let front: Front;
let client: Greeter;
let server: GreeterServer;
let port = 0;

const authority = (name: string): Greeter => {
  const options = { "grpc.default_authority": `${name}.localhost`, "grpc.enable_retries": 0 };
  return new Service(`127.0.0.1:${front.port}`, credentials.createInsecure(), options);
};
let Service: GreeterClass;

before(async () => {
  front = await new Front().listen();
  const folder = new URL("../../../examples/grpc/greeter/", import.meta.url);
  const { serve } = (await import(new URL("server.mjs", folder).href)) as {
    serve: (address: string) => Promise<{ server: GreeterServer; port: number }>;
  };
  ({ Greeter: Service } = (await import(new URL("service.mjs", folder).href)) as { Greeter: GreeterClass });
  ({ server, port } = await serve("127.0.0.1:0"));
  front.world.deploy(http2Revision("greeter"));
  client = authority("greeter");
});
after(async () => {
  client.close();
  server.forceShutdown();
  await front.stop();
});

const greet = (name: string, options: object = {}, by = client) => {
  const { promise, resolve } = Promise.withResolvers<{
    error: ServiceError | null;
    text: string | undefined;
    trailers: Metadata;
  }>();
  let trailers = new Metadata();
  let result: { error: ServiceError | null; text: string | undefined } | null = null;
  const settle = (): void => {
    if (result !== null) resolve({ ...result, trailers });
  };
  const call = by.greet({ name }, new Metadata(), options, (error, answer) => {
    result = { error, text: (answer as { text: string } | undefined)?.text };
    setImmediate(settle);
  });
  call.on("status", (status) => (trailers = status.metadata));
  return promise;
};

test("a call waits until the instance is there, and ends at its own deadline where none comes", async () => {
  const late = await greet("Ada", { deadline: Date.now() + 100 });
  assert.equal(late.error?.code, status.DEADLINE_EXCEEDED);
  const revision = front.world.revisions.get("default/greeter")!;
  await until(() => front.world.activator.load(revision).waiting === 0, "it has left the queue");
  const waiting = greet("Ada");
  await until(() => front.world.activator.load(revision).waiting === 1, "the next one waits");
  front.world.startAt(revision, () => connect({ host: "127.0.0.1", port }));
  assert.equal((await waiting).text, "Hello, Ada!");
});

test("unary: message, status and trailers come as they are sent", async () => {
  const { text, trailers, error } = await greet("Grace");
  assert.deepEqual([text, error, trailers.get("letters")], ["Hello, Grace!", null, ["5"]]);
  const refused = await greet("");
  assert.deepEqual([refused.error?.code, refused.error?.details], [status.INVALID_ARGUMENT, "who are you?"]);
});

test("streams of the server, of the client, and of both at once", async () => {
  const numbers: number[] = [];
  for await (const { value } of client.count({ to: 2_000 }) as AsyncIterable<{ value: number }>) numbers.push(value);
  assert.equal(numbers.length, 2_000);
  const sum = await new Promise<number>((resolve, reject) => {
    const call = client.sum((error, { value }) => (error ? reject(error) : resolve(value)));
    for (let value = 1; value <= 2_000; value++) call.write({ value });
    call.end();
  });
  assert.equal(sum, 2_001_000);
  const both = client.greetAll();
  for (const name of ["one", "two", "three"]) {
    both.write({ name });
    const [{ text }] = (await once(both, "data")) as [{ text: string }];
    assert.equal(text, `Hello, ${name}!`);
  }
  both.end();
  await once(both, "end");
});

test("a call that is cancelled is over in the instance too", async () => {
  const revision = front.world.revisions.get("default/greeter")!;
  const endless = client.count({ to: 1_000_000, everyMs: 1 });
  const failed = once(endless, "error") as Promise<[ServiceError]>;
  await once(endless, "data");
  endless.cancel();
  assert.equal((await failed)[0].code, status.CANCELLED);
  await until(() => front.world.activator.load(revision).active === 0, "it is over");
});

test("what ebb itself refuses is a status of gRPC", async () => {
  await front.echo({ public: false }, "secret");
  for (const [name, code] of [
    ["secret", status.UNAUTHENTICATED],
    ["nobody", status.UNAUTHENTICATED],
  ] as const) {
    const other = authority(name);
    assert.equal((await greet("Ada", {}, other)).error?.code, code);
    other.close();
  }
  front.world.admitProblem = new EbbError("rate_limited", "too many");
  const limited = await greet("Ada");
  front.world.admitProblem = null;
  assert.deepEqual(
    [limited.error?.code, limited.error?.details],
    [status.RESOURCE_EXHAUSTED, "rate_limited: too many"],
  );
});
