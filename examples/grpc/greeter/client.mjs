// Every kind of call, once.

import { credentials } from "@grpc/grpc-js";
import { Greeter } from "./service.mjs";

// Not every resolver knows names below localhost, so the workload is named as the authority.
const client = new Greeter(process.env.EBB ?? "127.0.0.1:8080", credentials.createInsecure(), {
  "grpc.default_authority": "greeter.localhost",
});

const greeting = await new Promise((resolve, reject) => {
  const deadline = Date.now() + 10_000;
  client.greet({ name: "Ada" }, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
});
console.log(greeting.text);

const numbers = [];
for await (const { value } of client.count({ to: 5 })) numbers.push(value);
console.log("counted", numbers.join(" "));

const sum = await new Promise((resolve, reject) => {
  const call = client.sum((error, answer) => (error ? reject(error) : resolve(answer)));
  for (const value of numbers) call.write({ value });
  call.end();
});
console.log("their sum is", sum.value);

const both = client.greetAll();
for (const name of ["Grace", "Edsger"]) both.write({ name });
both.end();
for await (const { text } of both) console.log(text);

client.close();
