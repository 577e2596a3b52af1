// ebb behind the reverse proxies that people put in front of it: Debian's nginx and caddy.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  eventually,
  fetchFrom,
  folderOf,
  removeDirectory,
  startDaemon,
  temporaryDirectory,
  type Daemon,
} from "./fixture.ts";

let daemon: Daemon;
let folder: string;
const code = folderOf({
  "index.mjs":
    "export default async (r) => { const h = (n) => r.headers.get(n); return Response.json({ url: r.url, proto: h('x-forwarded-proto'), host: h('x-forwarded-host'), for: h('x-forwarded-for'), prefix: h('x-forwarded-prefix'), body: (await r.text()).length }); };",
});

before(async () => {
  folder = temporaryDirectory();
  daemon = await startDaemon({ args: ["--url", "https://fn.example.com", "--trust-proxy", "127.0.0.1/32"] });
  const result = await daemon.ebb(["deploy", code, "--name", "echo", "--public"]);
  assert.equal(result.code, 0, result.stderr);
});

after(async () => {
  await daemon?.stop();
  for (const directory of [folder, code, daemon?.directory]) if (directory) removeDirectory(directory);
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Echo {
  url: string;
  proto: string | null;
  host: string | null;
  for: string | null;
  body: number;
}

/** From another address than the one that is trusted. */
const stranger = "127.0.0.2";

async function behind(name: string, port: number, proxy: ChildProcess, trusted: boolean): Promise<void> {
  const ended = once(proxy, "exit");
  try {
    await eventually(`${name} answers`, () =>
      fetchFrom(port, "echo.fn.example.com", "/").then(
        (answer) => answer.status > 0,
        () => false,
      ),
    );
    const answer = await fetchFrom(port, "echo.fn.example.com", "/a?b=c", {
      method: "POST",
      body: "x".repeat(100_000),
      headers: { "x-forwarded-for": "9.9.9.9" },
    });
    assert.equal(answer.status, 200, answer.text);
    const echo = JSON.parse(answer.text) as Echo;
    assert.equal(echo.body, 100_000);
    if (trusted) {
      assert.equal(echo.proto, "http", "the proxy's own word for the scheme counts");
      assert.match(echo.for ?? "", /127\.0\.0\.1|9\.9\.9\.9/);
    } else {
      assert.equal(echo.for, stranger, "what an untrusted peer forwards is replaced");
    }
    assert.equal((await fetchFrom(port, "nothing.example.org", "/")).status, 421);
  } finally {
    proxy.kill("SIGTERM");
    await ended;
  }
}

for (const trusted of [true, false])
  test(
    `behind nginx, ${trusted ? "trusted" : "untrusted"}, hosts, bodies and forwarded headers are right`,
    { skip: !existsSync("/usr/sbin/nginx") && "nginx is not installed" },
    async () => {
      const port = await freePort();
      const configuration = join(folder, `nginx-${trusted}.conf`);
      writeFileSync(
        configuration,
        `daemon off; master_process off; pid ${folder}/nginx-${trusted}.pid; error_log stderr; events {}
http { access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${daemon.port}; ${trusted ? "" : `proxy_bind ${stranger};`} proxy_http_version 1.1; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }`,
      );
      await behind("nginx", port, spawn("/usr/sbin/nginx", ["-c", configuration], { stdio: "ignore" }), trusted);
    },
  );

test(
  "behind caddy hosts, bodies and forwarded headers are right",
  { skip: !existsSync("/usr/bin/caddy") && "caddy is not installed" },
  async () => {
    const port = await freePort();
    const configuration = join(folder, "Caddyfile");
    writeFileSync(
      configuration,
      `{\n  admin off\n  auto_https off\n}\nhttp://:${port} {\n  bind 127.0.0.1\n  reverse_proxy 127.0.0.1:${daemon.port}\n}\n`,
    );
    const proxy = spawn("/usr/bin/caddy", ["run", "--config", configuration, "--adapter", "caddyfile"], {
      stdio: "ignore",
      env: { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    });
    await behind("caddy", port, proxy, true);
  },
);
