// The console's host: what is served there, what is not, and the way there from elsewhere.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Front, readAnswer } from "./front.testing.ts";

let front: Front;
/** As behind a proxy that ends TLS for https://fn.example.com. */
let proxied: Front;
before(async () => {
  front = await new Front().listen();
  proxied = await new Front({ baseUrl: new URL("https://fn.example.com"), trustProxy: ["127.0.0.1"] }).listen();
  await front.echo({ public: true });
  await front.echo({ public: true }, "console");
  await proxied.echo({ public: true });
});
after(async () => {
  await front.stop();
  await proxied.stop();
});

const location = (head: string): string | undefined => /\r\nlocation: ([^\r]*)/.exec(head)?.[1];

const redirects: ReadonlyArray<[host: string, path: string, expected: string]> = [
  ["localhost", "/console", "http://console.localhost/"],
  ["LOCALHOST:8080", "/console", "http://console.localhost:8080/"],
  ["localhost.:8080", "/console/", "http://console.localhost:8080/"],
  ["api.localhost:8080", "/console", "http://console.localhost:8080/"],
  ["127.0.0.1:8080", "/console", "http://console.localhost:8080/"],
  ["[::1]:8080", "/console", "http://console.localhost:8080/"],
  ["localhost:8080", "/console/functions/hello?tab=logs", "http://console.localhost:8080/functions/hello?tab=logs"],
];
for (const [host, path, expected] of redirects) {
  test(`${host}${path} redirects to ${expected}`, async () => {
    const answer = await front.get(path, { host });
    assert.deepEqual([answer.status, location(answer.head)], [307, expected]);
    assert.match(answer.head, /\r\ncache-control: no-store/);
  });
}

test("behind a trusted proxy the redirect has the outer scheme, and the outer port", async () => {
  const headers = { host: "fn.example.com", "x-forwarded-proto": "https" };
  assert.equal(location((await proxied.get("/console", headers)).head), "https://console.fn.example.com/");
  const outer = { host: "127.0.0.1:9", "x-forwarded-proto": "https", "x-forwarded-host": "fn.example.com:8443" };
  assert.equal(location((await proxied.get("/console", outer)).head), "https://console.fn.example.com:8443/");
});

test("X-Forwarded-* of anybody else say nothing of where the redirect goes", async () => {
  const headers = { host: "localhost:8080", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example.com" };
  assert.equal(location((await front.get("/console", headers)).head), "http://console.localhost:8080/");
});

test("only what can be asked again redirects", async () => {
  const text = "POST /console HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
  assert.match(readAnswer(await front.raw(text)).head, /405[^]*allow: get, head/);
});

test("a path that could be read in two ways redirects nowhere", async () => {
  for (const path of ["/console//evil.example.com", "/console/../x", "/console/%2fevil.example.com"])
    assert.equal((await front.get(path, { host: "localhost" })).status, 400, path);
  assert.equal((await front.get("/consoles", { host: "localhost" })).status, 404);
});

test("/console of a workload is the workload's", async () => {
  for (const [host, path] of [
    ["hello.localhost", "/console"],
    ["localhost", "/run/default/hello/console"],
  ] as const)
    assert.equal((await front.get(path, { host })).json["url"], "/console", host);
});

test("inside, there is no console", async () => {
  for (const host of ["ebb.internal", "127.0.0.1"])
    assert.equal((await front.get("/console", { host, "ebb-credential": "cred-i1" }, true)).status, 404, host);
});

test("the console's host says at its root what it is, and serves the API and health", async () => {
  const host = "console.localhost:8080";
  const page = await front.get("/", { host });
  assert.deepEqual([page.status, /ebb ls/.test(page.body)], [200, true]);
  assert.match(page.body, /no web console/);
  assert.equal((await front.get("/healthz", { host })).body, "ok\n");
  assert.equal((await front.get("/api/v1/x", { host })).body, "api");
  assert.equal(location((await front.get("/console", { host })).head), "http://console.localhost:8080/");
});

test("the console's host is no workload's: neither one of that name nor one by path is served there", async () => {
  const begun = front.world.marks.begun.size;
  assert.match((await front.get("/", { host: "console.localhost" })).body, /^ebb 1\.2\.3/);
  for (const path of ["/run/default/hello", "/run/default/hello/x", "/run/default/nope"])
    assert.equal((await front.get(path, { host: "console.localhost" })).status, 404, path);
  assert.equal(front.world.marks.begun.size, begun);
});
