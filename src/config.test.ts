// What `ebb up` makes of its options and environment.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import {
  ConfigError,
  dataDirectory,
  installation,
  readClientEnvironment,
  readDaemonConfig,
  readOpenFilesMax,
  readResolvers,
  readSearchDomains,
} from "./config.ts";

test("what nobody says is INTERFACE's default", () => {
  const config = readDaemonConfig({}, {});
  assert.deepEqual(
    [config.dataDirectory, config.listenHost, config.listenPort, config.baseUrl, config.trustProxy, config.isolation],
    [join(installation, ".ebb"), "127.0.0.1", 8_080, null, [], "container"],
  );
  assert.equal(config.keepAlive, "histogram");
});

test("an instance sends 1000 Mbit/s at most where nobody says another rate", () => {
  assert.equal(readDaemonConfig({}, {}).egressBytesPerSecond, 125_000_000);
  assert.equal(readDaemonConfig({ egressRate: "8" }, {}).egressBytesPerSecond, 1_000_000);
  assert.equal(readDaemonConfig({}, { EBB_EGRESS_RATE_MBIT: "80" }).egressBytesPerSecond, 10_000_000);
  for (const egressRate of ["0", "-1", "1.5", "1G", "", "1000001"])
    assert.throws(
      () => readDaemonConfig({ egressRate }, {}),
      /--egress-rate: expected Mbit\/s from 1 to 1000000, found "/,
    );
});

test("instances are paused after 5 s where nobody says another time, or that they are not", () => {
  assert.equal(readDaemonConfig({}, {}).pauseAfterMs, 5_000);
  assert.equal(readDaemonConfig({}, { EBB_PAUSE_SECONDS: "60" }).pauseAfterMs, 60_000);
  assert.equal(readDaemonConfig({ pause: "off" }, { EBB_PAUSE_SECONDS: "60" }).pauseAfterMs, null);
  for (const pause of ["0", "-1", "1.5", "1s", "", "86401"])
    assert.throws(() => readDaemonConfig({ pause }, {}), /--pause: expected off, or seconds from 1 to 86400, found "/);
});

test("registries of the operator's own networks are hosts, with a port or without", () => {
  assert.deepEqual(readDaemonConfig({}, {}).registries, []);
  const environment = { EBB_REGISTRIES: "localhost:5000, Registry.Internal" };
  assert.deepEqual(readDaemonConfig({}, environment).registries, ["localhost:5000", "registry.internal"]);
  assert.deepEqual(readDaemonConfig({ registries: ["[::1]:5000"] }, environment).registries, ["[::1]:5000"]);
  for (const wrong of ["http://x", "x:0", "x:65536", "a b", ""])
    assert.throws(() => readDaemonConfig({ registries: [wrong] }, {}), /--registry: expected HOST or HOST:PORT/);
});

test("an option goes before the environment, and the environment before the default", () => {
  const environment = {
    EBB_DATA: "/env",
    EBB_LISTEN: "0.0.0.0:1",
    EBB_BASE_URL: "https://env.example.com",
    EBB_TRUST_PROXY: "10.0.0.0/8, ::1",
    EBB_ISOLATION: "container",
    EBB_KEEP_ALIVE: "fixed",
  };
  assert.equal(readDaemonConfig({}, environment).keepAlive, "fixed");
  assert.equal(readDaemonConfig({ keepAlive: "histogram" }, environment).keepAlive, "histogram");
  const said = readDaemonConfig({}, environment);
  assert.deepEqual(
    [said.dataDirectory, said.listenHost, said.listenPort, said.baseUrl?.host, said.trustProxy],
    ["/env", "0.0.0.0", 1, "env.example.com", ["10.0.0.0/8", "::1"]],
  );
  const url = "https://fn.example.com";
  const options = { data: "/option", listen: "[::1]:2", url, trustProxy: ["127.0.0.1"], isolation: "none" };
  const over = readDaemonConfig(options, environment);
  assert.deepEqual(
    [over.dataDirectory, over.listenHost, over.listenPort, over.baseUrl?.host, over.trustProxy, over.isolation],
    ["/option", "::1", 2, "fn.example.com", ["127.0.0.1"], "none"],
  );
  assert.equal(dataDirectory("relative"), join(process.cwd(), "relative"));
});

test("what cannot be meant is one sentence that says what was expected", () => {
  const wrong: Array<[Parameters<typeof readDaemonConfig>[0], RegExp]> = [
    [{ listen: "8080" }, /--listen: expected HOST:PORT, found "8080"/],
    [{ listen: "127.0.0.1:65536" }, /--listen: expected HOST:PORT/],
    [{ keepAlive: "for ever" }, /--keep-alive: expected fixed or histogram, found "for ever"/],
    [{ isolation: "gvisor" }, /--isolation: expected container or none/],
    [{ isolation: "none", listen: "0.0.0.0:8080" }, /--isolation none listens on loopback only/],
    [{ isolation: "none", listen: ":8080" }, /--isolation none listens on loopback only/],
    ...["fn.example.com", "ftp://fn.example.com", "https://fn.example.com/path", "https://u@fn.example.com"].map(
      (url): [{ url: string }, RegExp] => [{ url }, /--url: expected a URL such as https:\/\/fn\.example\.com/],
    ),
  ];
  for (const [options, words] of wrong)
    assert.throws(
      () => readDaemonConfig(options, {}),
      (error) => error instanceof ConfigError && words.test(error.message) && !error.message.includes("\n"),
      JSON.stringify(options),
    );
});

test("contexts are kept in ~/.config/ebb, and colours are left out where nobody wants them", () => {
  assert.equal(readClientEnvironment({ HOME: "/home/a" }).contextDirectory, "/home/a/.config/ebb");
  assert.equal(readClientEnvironment({ HOME: "/home/a", XDG_CONFIG_HOME: "/x" }).contextDirectory, "/x/ebb");
  assert.deepEqual(
    [{}, { NO_COLOR: "1" }, { TERM: "dumb" }].map((environment) => readClientEnvironment(environment).color),
    [true, false, false],
  );
});

function fileOf(context: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "ebb-config-"));
  context.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "file"), text);
  return join(folder, "file");
}

test("of resolv.conf, its resolvers and the domains it searches; a top-level domain is nobody's own", (context) => {
  const path = fileOf(
    context,
    "# search no.example.com\ndomain Office.example.\nsearch a.example.com. lan b.example # c.example\nnameserver 10.0.0.1\n",
  );
  assert.deepEqual(readResolvers(path), ["10.0.0.1"]);
  assert.deepEqual(readSearchDomains(path), ["office.example", "a.example.com", "b.example"]);
  assert.deepEqual(readSearchDomains(`${path}.absent`), []);
});

test("the files that may be open are the soft limit's", (context) => {
  const line =
    "Max processes             100                  100                  processes\nMax open files            ";
  assert.equal(readOpenFilesMax(fileOf(context, `${line}4096                 8192                 files\n`)), 4_096);
  assert.equal(readOpenFilesMax(fileOf(context, `${line}unlimited            unlimited            files\n`)), Infinity);
});
