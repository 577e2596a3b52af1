// Containers in a real ebb: an image from a registry that nobody here has seen serves from zero and goes back to zero; new images,
// rollbacks, images that were sent, crash loops, and nothing left.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { accessSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  imageOf,
  layerOf,
  startRegistry,
  writeLayout,
  type Layer,
  type Registry,
  type TestImage,
} from "#images/images.testing.ts";
import { eventually, folderOf, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";
import { livesOf, nothingLeftOf, type Life } from "./traces.ts";

function whyNot(): string | false {
  if (process.getuid?.() !== 0) return "not root";
  for (const path of ["/usr/bin/skopeo", "/usr/bin/docker-registry", "/bin/busybox"])
    try {
      accessSync(path);
    } catch {
      return `no ${path}`;
    }
  return false;
}

/** Says who and where it is, with the words of its version; MODE=die ends it at once. */
const script = (words: string): string => `#!/bin/sh
printf 'content-type: text/plain\\r\\n\\r\\n'
echo "${words} $(id -u) $FROM_IMAGE $LEVEL $(pwd)"
`;
const entry = `[ "$MODE" = die ] && echo "no mood" && exit 3
echo "serving on $PORT"
exec httpd -f -p $PORT -h /srv`;

/** Busy a part of the time, several times what is aimed at, until nobody listens any more. */
const burn = `#!/bin/sh
printf 'content-type: text/plain\\r\\n\\r\\n'
i=0
while :; do i=$((i+1)); [ $((i % 10000)) = 0 ] && echo $i && busybox sleep 0.05; done
`;

/** Answers an upgrade with the accept of RFC 6455's own example, and then says what it hears. */
const echo = `#!/bin/sh
while read -r line; do [ "\${#line}" -le 1 ] && break; done
printf 'HTTP/1.1 101 Switching Protocols\\r\\nconnection: upgrade\\r\\nupgrade: websocket\\r\\n'
printf 'sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n'
exec cat
`;

describe("containers", { skip: whyNot() }, () => {
  const folder = temporaryDirectory();
  const folders: string[] = [folder];
  let registry: Registry;
  let daemon: Daemon;
  let lives: Life[];
  let base: Layer;

  before(async () => {
    const programs = ["sh", "httpd", "id", "nc", "cat"];
    base = await layerOf([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      ...programs.map((name) => ({ name: `bin/${name}`, type: "symlink" as const, linkname: "busybox" })),
      { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n" },
    ]);
    registry = await startRegistry(folder);
    daemon = await startDaemon({ args: ["--registry", registry.host] });
    lives = livesOf(daemon.process.pid ?? 0);
  });
  after(async () => {
    await daemon.stop();
    await registry.stop();
    folders.push(daemon.directory);
    for (const path of folders) removeDirectory(path);
  });

  async function image(words: string, config: Record<string, unknown> = {}): Promise<TestImage> {
    const layer = await layerOf([
      { name: "srv/cgi-bin/who", mode: 0o755, content: script(words) },
      { name: "srv/cgi-bin/burn", mode: 0o755, content: burn },
      { name: "entry", mode: 0o755, content: `#!/bin/sh\n${entry}\n` },
    ]);
    const said = { User: "web", Env: ["FROM_IMAGE=yes"], WorkingDir: "/srv", Entrypoint: ["/entry"] };
    return imageOf([base, layer], { config: { ...said, ExposedPorts: { "80/tcp": {} }, ...config } });
  }

  function push(of: TestImage, name: string): string {
    const layout = writeLayout(join(folder, `layout-${name.replaceAll(/\W/g, "-")}`), of);
    const to = `docker://${registry.host}/${name}`;
    const pushed = spawnSync("skopeo", ["copy", "--dest-tls-verify=false", `oci:${layout}`, to], { encoding: "utf8" });
    assert.equal(pushed.status, 0, pushed.stderr);
    return `${registry.host}/${name}`;
  }

  function appOf(containers: string, files: Record<string, string> = {}): string {
    const path = folderOf({ "ebb.yaml": `containers:\n${containers}`, ...files });
    folders.push(path);
    return path;
  }

  async function deploy(path: string): Promise<string> {
    const { code, stdout, stderr } = await daemon.ebb(["deploy", path]);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  const who = async (name: string) => {
    const { status, text } = await daemon.fetch(`${name}.localhost`, "/cgi-bin/who");
    assert.equal(status, 200, text);
    return text.trim();
  };

  const row = async (name: string) => (await daemon.client.workloads.list("default")).find((one) => one.name === name)!;

  test("an image serves from zero, with its own user, folder and port, and goes back to zero", async () => {
    const reference = push(await image("first"), "team/web:1");
    const app = appOf(
      `  web: { image: "${reference}", public: true, memoryMb: 64, idleSeconds: 0, env: { LEVEL: info } }\n`,
    );
    const said = await deploy(app);
    assert.match(said, /^web {2}container {2}\S+\/team\/web:1@sha256:[0-9a-f]{12} \(\/entry\) {3}r1 \(new\)/m);
    const { kind, state, isolation, instances, max } = await row("web");
    assert.deepEqual([kind, state, isolation, instances, max], ["container", "ready", "container", 0, 5]);
    // cgi-bin is where its script runs.
    assert.equal(await who("web"), "first 101 yes info /srv/cgi-bin");
    await eventually("it is gone again", async () => (await row("web")).instances === 0);
    assert.equal(await who("web"), "first 101 yes info /srv/cgi-bin");

    const records = await daemon.client.workloads.invocations("default", "web");
    assert.deepEqual(
      records.map(({ outcome, cold, status, memoryMb }) => [outcome, cold, status, memoryMb]),
      [
        ["ok", true, 200, 64],
        ["ok", true, 200, 64],
      ],
    );
    const shown = await daemon.client.workloads.show("default", "web");
    assert.deepEqual([shown.runtime, shown.image], [null, reference]);
    assert.deepEqual(shown.settings["port"], { value: 80, source: "image" });
    assert.deepEqual(shown.settings["command"], { value: ["/entry"], source: "image" });
    await eventually("its output is in the log", async () => {
      return / web \S+ serving on 80$/m.test((await daemon.ebb(["logs", "web"])).stdout);
    });
  });

  test("what the name leads to now is a new revision; a rollback serves what served before", async () => {
    push(await image("second"), "team/web:1");
    const app = appOf(
      `  web: { image: "${registry.host}/team/web:1", public: true, memoryMb: 64, env: { LEVEL: info } }\n`,
    );
    assert.match(await deploy(app), / r2 \(was r1\)/);
    assert.match(await who("web"), /^second /);
    assert.match(await deploy(app), / r2 \(unchanged\)/);
    const revisions = await daemon.client.workloads.revisions("default", "web");
    assert.equal(new Set(revisions.map(({ imageDigest }) => imageDigest)).size, 2);
    assert.equal((await daemon.ebb(["rollback", "web"])).code, 0);
    assert.match(await who("web"), /^first /);
    assert.equal((await daemon.ebb(["restart", "web"])).code, 0);
    assert.match(await who("web"), /^first /);
  });

  test("an image is sent with the app: a folder as an OCI layout", async () => {
    const app = appOf(
      `  sent: { image: ./image, public: true, memoryMb: 64, args: [ignored], probe: { http: /cgi-bin/who } }\n`,
    );
    writeLayout(join(app, "image"), await image("sent"));
    assert.match(await deploy(app), /^sent {2}container {2}\.\/image@sha256:/m);
    assert.match(await who("sent"), /^sent 101 /);
    const instance = (await daemon.client.workloads.show("default", "sent")).instanceList.length;
    assert.equal(instance, 1);
  });

  test("a folder with a Dockerfile is built, its RUN in a sandbox; what fails is its author's, with line, code and last words", async () => {
    const reference = push(imageOf([base], { config: { Cmd: ["/bin/sh"] } }), "team/base:1");
    const sized = `#!/bin/sh\nprintf 'content-type: text/plain\\r\\n\\r\\n'\nbusybox stat -c %a:%u $0 /made\ncat /number /late\n`;
    const app = (last: string): string =>
      appOf(
        `  built: { build: { context: ./built, args: { GIVEN: '"$SAID"  x' }, target: last }, public: true, memoryMb: 64 }\n`,
        {
          "built/who": sized,
          "built/late": last,
          "built/Dockerfile": `FROM ${reference} AS last
ARG SAID="a  b" GIVEN=none
COPY who /srv/cgi-bin/
RUN id -u && env && busybox chmod 4755 /srv/cgi-bin/who && busybox cp -p /srv/cgi-bin/who /made && busybox chown 7 /made && busybox cp /proc/sys/kernel/random/uuid /number
${last}
CMD exec httpd -f -p $PORT -h /srv
FROM nowhere.invalid/unread
`,
        },
      );
    const { code, stderr } = await daemon.ebb(["deploy", app("RUN busybox cat /number; echo why >&2; exit 3")]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^built: Dockerfile:5: It exited with code 3: RUN busybox cat \/number; echo why >&2; exit 3\.?\n +[-0-9a-f]{36}\n +why$/m,
    );
    // Nothing of ebb's, and nothing of the machine's.
    const printed = stderr.split("\n").flatMap((line) => /^built \| (?!line )(.*)$/.exec(line)?.[1] ?? []);
    const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const number = printed.find((line) => /^[-0-9a-f]{36}$/.test(line)) ?? "";
    assert.deepEqual(
      printed.filter((line) => line !== number).toSorted(),
      ["0", 'GIVEN="$SAID"  x', "HOME=/root", path, "PWD=/", "SAID=a  b", "SHLVL=1", "why"],
      stderr,
    );
    // What was run before is not run again, though the folder is another one, with other times.
    await deploy(app("COPY late /"));
    const { text } = await daemon.fetch("built.localhost", "/cgi-bin/who");
    const kept = "755:0\n755:7";
    assert.equal(text.trim(), `${kept}\n${number}\nCOPY late /`, "set-user-id bits are not kept, and owners are");
  });

  test("a WebSocket goes through to a container, both ways, for as long as it lasts", async () => {
    const layer = await layerOf([{ name: "echo", mode: 0o755, content: echo }]);
    const of = imageOf([base, layer], { config: { Entrypoint: ["nc", "-ll", "-p", "8080", "-e", "/echo"] } });
    const app = appOf(`  echo: { image: ./image, public: true, memoryMb: 64 }\n`);
    writeLayout(join(app, "image"), of);
    await deploy(app);
    const socket = connect(daemon.port, "127.0.0.1");
    try {
      let said = "";
      socket.setEncoding("utf8").on("data", (text: string) => (said += text));
      const key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13";
      socket.write(
        `GET / HTTP/1.1\r\nhost: echo.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n${key}\r\n\r\n`,
      );
      await eventually("it is open", async () => /^HTTP\/1\.1 101 [\s\S]*\r\n\r\n$/.test(said));
      for (const word of ["first", "second"]) {
        socket.write(`${word}\n`);
        await eventually("it is echoed", async () => said.endsWith(`${word}\n`));
      }
    } finally {
      socket.destroy();
    }
  });

  test("what cannot be had or run is refused in words, and changes nothing", async () => {
    const silent = push(await image("refused", { Entrypoint: [], Cmd: [] }), "team/silent:1");
    const dying = push(await image("refused", { Env: ["MODE=die"] }), "team/dying:1");
    const refusals = async (container: string): Promise<string> => {
      const { code, stderr } = await daemon.ebb(["deploy", appOf(`  web: ${container}\n`)]);
      assert.equal(code, 1);
      return stderr;
    };
    assert.match(await refusals(`{ image: "${registry.host}/team/none:1" }`), /^web: .*team\/none/);
    assert.match(await refusals(`{ image: "${silent}" }`), /the image does not say what is run in it/);
    const died = await refusals(`{ image: "${dying}" }`);
    assert.match(died, /web: It ended before it could serve\. It exited with code 3\./);
    assert.match(died, /no mood/);
    // A user whom the image does not know: jobs.test.ts.
    assert.match(
      await refusals(`{ image: "${dying}", command: [/no/such] }`),
      /"\/no\/such", or .* is not in the image/,
    );
    assert.match(await who("web"), /^first /);
  });

  test("a container that does not start any more is a crash loop: said in ls, answered in words", async () => {
    const reference = `${registry.host}/team/web:1`;
    await daemon.client.secrets.set("default", "MODE", "live");
    await deploy(appOf(`  loop: { image: "${reference}", public: true, memoryMb: 64, secrets: [MODE] }\n`));
    await daemon.client.secrets.set("default", "MODE", "die");
    await eventually("it has failed often", async () => {
      await daemon.fetch("loop.localhost", "/");
      return (await row("loop")).state === "crash_loop";
    });
    const { status, text } = await daemon.fetch("loop.localhost", "/");
    assert.equal(status, 503, text);
    assert.match(text, /crash_loop/);
    assert.match((await daemon.ebb(["ls"])).stdout, /^loop +container +r1 +crash_loop, next start in \d+ s/m);
    assert.match((await daemon.ebb(["show", "loop"])).stdout, /last error.*code 3/);
  });

  test("one that scales by CPU gets another instance while it is busy, says why, and goes back to zero", async () => {
    const container = `{ image: "${registry.host}/team/web:1", public: true, memoryMb: 64, idleSeconds: 0, max: 2, scaling: { cpuPercent: 10 } }`;
    await deploy(appOf(`  burn: ${container}\n`));
    assert.match((await daemon.ebb(["ls"])).stdout, /^burn +container +r1 +asleep +0\/2 +cpu 10% /m);
    const caller = new AbortController();
    const burning = daemon.fetch("burn.localhost", "/cgi-bin/burn", { signal: caller.signal });
    burning.catch(() => undefined);
    await eventually("it is two", async () => (await row("burn")).instances === 2);
    const { by, target, percent, last } = (await row("burn")).scaling!;
    assert.deepEqual([by, target, last?.to], ["cpu", 10, 2]);
    assert.ok(percent !== null && percent > 10 && last !== null);
    assert.match(
      last.reasons.join(),
      /^(max is 2, \d+ would be used|\d+% of CPU used in 1 instance, 10% is aimed at)$/,
    );
    assert.match((await daemon.ebb(["show", "burn"])).stdout, /scales by cpu \d+\/10%; 1 -> 2 \d+s ago: /);
    caller.abort();
    await assert.rejects(burning);
    await eventually("they are gone", async () => (await row("burn")).instances === 0);
  });

  test("removed, stopped: nothing of them is left", async () => {
    assert.equal((await daemon.ebb(["rm", "sent", "--yes"])).code, 0);
    assert.equal(await row("sent"), undefined);

    await daemon.stop();
    await nothingLeftOf(lives);
  });
});
