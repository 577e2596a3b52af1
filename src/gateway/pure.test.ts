// Hosts, targets, forwarded headers and response headers, as tables.

import assert from "node:assert/strict";
import test from "node:test";
import type { ReplyHead } from "#activator/door.ts";
import { outerOf, plainAddress, TrustedProxies } from "./forwarded.ts";
import { clientNetwork, connectionBounds } from "./places.ts";
import { misdirectedWords, parseAuthority, routeHost, routeInternalHost } from "./host.ts";
import { responseHeaders, withoutBaseDomain } from "./response-headers.ts";
import { parseTarget, routePath, splitCredential } from "./target.ts";

const hosts: ReadonlyArray<[host: string, expected: string]> = [
  ["localhost", "platform base"],
  ["LOCALHOST:8080", "platform base"],
  ["localhost.", "platform base"],
  ["api.localhost", "platform api"],
  ["console.localhost:1", "platform console"],
  ["127.0.0.1:8080", "platform ip"],
  ["[::1]:8080", "platform ip"],
  ["[::FFFF:127.0.0.1]", "platform ip"],
  ["hello.localhost", "default/hello"],
  ["Hello.LocalHost.:8080", "default/hello"],
  ["hello--photos.localhost", "photos/hello"],
  ["api--photos.localhost", "photos/api"],
  ["foo.example.com", "foreign"],
  ["localhost.example.com", "foreign"],
  ["xlocalhost", "foreign"],
  ["a.b.localhost", "foreign"],
  ["r3--hello--photos.localhost", "foreign"],
  ["--photos.localhost", "malformed"],
  ["a--.localhost", "malformed"],
  ["127.1", "foreign"],
  ["0x7f000001", "foreign"],
  ["2130706433", "foreign"],
  ["", "malformed"],
  [":80", "malformed"],
  ["a b", "malformed"],
  ["a..b", "malformed"],
  ["-a.localhost", "malformed"],
  ["user@localhost", "malformed"],
  ["localhost:99999", "malformed"],
  ["localhost:80:80", "malformed"],
  ["localhost:x", "malformed"],
  ["localhost/", "malformed"],
  ["loc%61lhost", "malformed"],
  ["::1", "malformed"],
  ["[::1", "malformed"],
  ["[127.0.0.1]", "malformed"],
  ["[::1%25eth0]", "malformed"],
  [`${"a".repeat(64)}.localhost`, "malformed"],
  ["localhost..", "malformed"],
  ["h\u00e9llo.localhost", "malformed"],
];
for (const [host, expected] of hosts) {
  test(`host "${host}" is ${expected}`, () => {
    const authority = parseAuthority(host);
    const route = authority && routeHost(authority, "localhost");
    const found =
      route === null
        ? "malformed"
        : route.kind === "platform"
          ? `platform ${route.at}`
          : route.kind === "workload"
            ? `${route.project}/${route.workload}`
            : "foreign";
    assert.equal(found, expected);
  });
}

test("inside, a name is of the caller's own project and nobody else's", () => {
  const route = (host: string): unknown => routeInternalHost(parseAuthority(host)!, "photos");
  assert.deepEqual(route("hello.ebb.internal"), { kind: "workload", project: "photos", workload: "hello" });
  assert.deepEqual(route("ebb.internal"), { kind: "platform", at: "base" });
  for (const host of ["hello--other.ebb.internal", "a.b.ebb.internal", "hello.localhost", "example.com"])
    assert.deepEqual(route(host), { kind: "foreign" });
});

test("a 421 names the host, what is served, and the way on", () => {
  assert.match(
    misdirectedWords("foo.example.com", "localhost"),
    /^no workload at "foo\.example\.com"; ebb serves \*\.localhost\. Start with --url /,
  );
});

test("targets: origin and absolute form, nothing that could be read in two ways", () => {
  assert.deepEqual(parseTarget("/a%2Fb?x=/../#".slice(0, -1)), { path: "/a%2Fb", query: "?x=/../", authority: null });
  assert.deepEqual(parseTarget("http://Hello.localhost:80?x"), {
    path: "/",
    query: "?x",
    authority: { name: "hello.localhost", ip: false, port: 80 },
  });
  for (const bad of [
    "",
    "*",
    "a",
    "/a b",
    "/a#b",
    "/a\\b",
    "/\x7f",
    "/\xe9",
    "ftp://a/",
    "http:///a",
    "http://u@a/",
    "hello:80",
  ])
    assert.equal(parseTarget(bad), null, bad);
});

const paths: ReadonlyArray<[path: string, expected: string]> = [
  ["/", "page"],
  ["/healthz", "health"],
  ["/metrics", "api"],
  ["/api/v1/workloads", "api"],
  ["/run/photos/hello", "photos/hello /"],
  ["/run/photos/hello/", "photos/hello /"],
  ["/run/photos/hello/a%2Fb/../c", "photos/hello /a%2Fb/../c"],
  ["/run/photos/hello//x", "photos/hello //x"],
  ["/run/photos", "none"],
  ["/run/photos/", "none"],
  ["/run/Photos/hello", "none"],
  ["/run/photos/hel%6co", "none"],
  ["/run/../api/v1", "ambiguous"],
  ["/run/photos/../hello", "ambiguous"],
  ["/api/v1/../../metrics", "ambiguous"],
  ["/api/%2e%2E/metrics", "ambiguous"],
  ["/api%2fv1", "ambiguous"],
  ["/api/v1/%5cx", "ambiguous"],
  ["/api/v1/%00", "ambiguous"],
  ["/api/v1/%zz", "ambiguous"],
  ["//api/v1", "ambiguous"],
  ["/apiary", "none"],
  ["/healthz/", "none"],
  ["/Healthz", "none"],
];
for (const [path, expected] of paths) {
  test(`path "${path}" is ${expected}`, () => {
    const route = routePath(path);
    assert.equal(route.kind === "workload" ? `${route.project}/${route.workload} ${route.path}` : route.kind, expected);
  });
}

test("a credential in front of a path is taken off it", () => {
  assert.deepEqual(splitCredential("/_/ebbc_abc/run/p/n"), { credential: "ebbc_abc", path: "/run/p/n" });
  assert.deepEqual(splitCredential("/_/ebbc_abc"), { credential: "ebbc_abc", path: "/" });
  assert.equal(splitCredential("/_//run"), null);
  assert.equal(splitCredential("/x/_/a/run"), null);
});

test("trusted proxies are addresses and ranges of both kinds, and nothing else", () => {
  const trusted = new TrustedProxies(["10.0.0.0/8", "::1", "fd00::/8"]);
  for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "::1", "fd12::1"])
    assert.equal(trusted.has(address), true, address);
  for (const address of ["11.0.0.1", "127.0.0.1", "::2", "", "nonsense"])
    assert.equal(trusted.has(address), false, address);
  assert.equal(new TrustedProxies([]).has("127.0.0.1"), false);
  for (const bad of ["", "10.0.0.0/33", "10.0.0.0/x", "10.0.0.0/8/8", "localhost", "::/129"])
    assert.throws(() => new TrustedProxies([bad]), RangeError, bad);
  assert.equal(plainAddress("::ffff:1.2.3.4"), "1.2.3.4");
});

test("one client is one IPv4 address, or an IPv6 /64 however it is written", () => {
  for (const [address, network] of [
    ["1.2.3.4", "1.2.3.4"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
    ["2001:db8::9", "2001:db8:0:0::/64"],
    ["2001:db8:0:0:1::", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["", ""],
  ] as const)
    assert.equal(clientNetwork(address), network, address);
});

test("connections are bounded by a limit, and by the files that may be open", () => {
  assert.deepEqual(connectionBounds("public", Number.POSITIVE_INFINITY), { inAll: 20_000, each: 1_000 });
  assert.deepEqual(connectionBounds("internal", 1_048_576), { inAll: 20_000, each: 1_000 });
  const [outside, inside] = [connectionBounds("public", 4_096), connectionBounds("internal", 4_096)];
  assert.deepEqual(
    [outside, inside],
    [
      { inAll: 2_867, each: 144 },
      { inAll: 614, each: 31 },
    ],
  );
});

test("X-Forwarded-* count from a trusted peer alone, and only where they say one thing", () => {
  const headers = { for: "203.0.113.9", proto: "HTTPS", host: "hello.example.com" };
  assert.deepEqual(outerOf(headers, "h", "10.0.0.1", false, false), {
    scheme: "http",
    host: "h",
    forwardedFor: "10.0.0.1",
  });
  assert.deepEqual(outerOf(headers, "h", "10.0.0.1", false, true), {
    scheme: "https",
    host: "hello.example.com",
    forwardedFor: "203.0.113.9, 10.0.0.1",
  });
  const listed = { for: null, proto: "https, http", host: "a, b" };
  assert.deepEqual(outerOf(listed, "h", "10.0.0.1", false, true), {
    scheme: "http",
    host: "h",
    forwardedFor: "10.0.0.1",
  });
});

const head: ReplyHead = {
  status: 200,
  headers: [],
  lengthBytes: 2,
  queueMs: 0.1234567,
  startMs: 0,
  execMs: 3,
  cold: false,
};
const rules = { invocation: "id", base: "localhost", shared: false, workloadUrl: "http://hello.localhost" };

test("an answer carries its id and where its time went", () => {
  assert.deepEqual(responseHeaders({ ...head, headers: ["x", "y"] }, rules), [
    "x",
    "y",
    "ebb-invocation-id",
    "id",
    "server-timing",
    "queue;dur=0.123, start;dur=0, exec;dur=3",
  ]);
});

test("under /run/ an answer loses what would reach its neighbours", () => {
  const whole = ["clear-site-data", "*", "strict-transport-security", "max-age=1", "nel", "{}", "alt-svc", "h2=:1"];
  const headers = ["set-cookie", "a=1", "service-worker-allowed", "/", "x", "y", ...whole];
  const out = responseHeaders({ ...head, headers }, { ...rules, shared: true }).join("\n");
  assert.doesNotMatch(out, /set-cookie|service-worker|clear-site|strict-transport|nel|alt-svc/);
  assert.match(out, /content-security-policy\nsandbox allow-scripts allow-forms allow-popups/);
  assert.match(out, /ebb-note\n.*http:\/\/hello\.localhost/);
  assert.match(responseHeaders({ ...head, headers }, rules).join("\n"), /set-cookie\na=1\nservice-worker-allowed/);
});

const cookies: ReadonlyArray<[cookie: string, expected: string]> = [
  ["a=1; Path=/", "a=1; Path=/"],
  ["a=1; Domain=fn.example.com; Path=/", "a=1; Path=/"],
  ["a=1; domain = .FN.example.com.", "a=1"],
  ["a=1;Domain=example.com;Secure", "a=1;Secure"],
  ["a=1; Domain=com", "a=1"],
  ['a=1; Domain="fn.example.com"', "a=1"],
  ["a=1; Domain=hello.fn.example.com", "a=1; Domain=hello.fn.example.com"],
  ["a=domain=com", "a=domain=com"],
  ["a=1; Domain=x; Domain=fn.example.com", "a=1; Domain=x"],
  ["a=1; Domain=", "a=1; Domain="],
  ["a=1; domain=%66n.example.com", "a=1"],
  ["a=1; domain=\uff46n.example.com", "a=1"],
  ["a=1; domain=fn.example.com:80", "a=1"],
];
for (const [cookie, expected] of cookies) {
  test(`cookie "${cookie}" goes out as "${expected}"`, () => {
    assert.equal(withoutBaseDomain(cookie, "fn.example.com"), expected);
  });
}
