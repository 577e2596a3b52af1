// What goes to the instance: ebb's headers as ebb has them, whatever the caller sent.

import assert from "node:assert/strict";
import test from "node:test";
import type { Call } from "./door.ts";
import { refuseCall, requestHead, traceIdOf } from "./request-head.ts";

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

function call(options: Partial<Call> = {}): Call {
  const at = {
    project: "default",
    workload: "hello",
    trigger: "http",
    depth: 0,
    arrivedUs: 0,
    upgrade: false,
  } as const;
  return { id: "0".repeat(26), ...at, method: "GET", target: "/", headers: [], body: null, ...options };
}

test("a caller's own ebb-*, framing and connection headers do not reach the function", () => {
  const headers = [
    "host",
    "a",
    "ebb-trigger",
    "cron",
    "ebb-deadline-ms",
    "1",
    "content-length",
    "9",
    "transfer-encoding",
    "chunked",
  ];
  const { text } = requestHead(call({ headers: [...headers, "connection", "close", "x", "y"] }), 1_500);
  assert.match(text, /^GET \/ HTTP\/1\.1\r\nhost: a\r\nx: y\r\ntraceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\n/);
  assert.match(text, /ebb-deadline-ms: 1500\r\nebb-trigger: http\r\n\r\n$/);
  assert.doesNotMatch(text, /cron|content-length|chunked|close/);
});

test("a valid traceparent goes on with its tracestate; anything else is replaced without it", () => {
  const kept = requestHead(call({ headers: ["traceparent", trace, "tracestate", "a=b"] }), 1);
  assert.match(kept.text, new RegExp(`traceparent: ${trace}\r\ntracestate: a=b\r\n`));
  assert.equal(kept.traceId, "4bf92f3577b34da6a3ce929d0e0e4736");
  const bad = [
    "",
    "junk",
    trace.toUpperCase(),
    trace.replace("00-4", "ff-4"),
    `${trace}-extra`,
    trace.replace(/-[0-9a-f]{16}-/, `-${"0".repeat(16)}-`),
  ];
  for (const value of bad) {
    const { text } = requestHead(call({ headers: ["traceparent", value, "tracestate", "a=b"] }), 1);
    assert.doesNotMatch(text, /tracestate/);
    assert.notEqual(traceIdOf(/traceparent: (.*)\r\n/.exec(text)![1]!), null);
  }
  assert.doesNotMatch(requestHead(call({ headers: ["traceparent", trace, "traceparent", trace] }), 1).text, /4bf92f/);
  assert.notEqual(traceIdOf(`01${trace.slice(2)}-later`), null, "a later version may say more");
});

test("the body's framing is ebb's: a length, chunks, or none", () => {
  const body = { read() {}, resume() {}, discard() {} };
  assert.match(
    requestHead(call({ method: "POST", body: { ...body, lengthBytes: 3 } }), 1).text,
    /\r\ncontent-length: 3\r\n/,
  );
  assert.match(
    requestHead(call({ method: "POST", body: { ...body, lengthBytes: null } }), 1).text,
    /\r\ntransfer-encoding: chunked\r\n/,
  );
  assert.match(requestHead(call({ method: "POST" }), 1).text, /\r\ncontent-length: 0\r\n/);
  assert.doesNotMatch(requestHead(call(), 1).text, /content-length/);
});

test("a call from elsewhere that would not be one request is refused", () => {
  assert.equal(refuseCall(call({ headers: ["x", "a\tb"] })), null);
  assert.match(refuseCall(call({ headers: ["x", "a\r\nb: c"] }))!, /control character/);
  assert.match(refuseCall(call({ headers: ["x y", "a"] }))!, /token/);
  assert.match(refuseCall(call({ headers: ["X", "a"] }))!, /lower-case/);
  assert.match(refuseCall(call({ target: "/a b" }))!, /target/);
  assert.match(refuseCall(call({ target: "a" }))!, /target/);
  assert.match(refuseCall(call({ method: "GET /" }))!, /method/);
});
