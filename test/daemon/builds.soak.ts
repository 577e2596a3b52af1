// Images that are built by running things, in a real ebb on a machine of its own: what a RUN may do and may not, how it fails, and that
// nothing of it is left, however it ends.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, layerOf, startOwnRegistry, type Registry } from "#images/images.testing.ts";
import { cannotRun, insideMachine, startWorld, stopChild, world } from "#network/testing/machine.ts";
import { defaultRunRoot } from "#spawner/run-root.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import { livesOf, nothingLeftOf, programsOf, type Life } from "./traces.ts";

const whyNot =
  cannotRun() ??
  ["/usr/bin/skopeo", "/usr/bin/buildah", "/bin/busybox"]
    .map((path) => (existsSync(path) ? null : `no ${path}`))
    .find(Boolean) ??
  null;
const programs =
  "sh httpd id cat ls mkdir rm mv ln chmod chown env dd sleep nc nslookup awk tail grep mknod touch stat find true".split(
    " ",
  );
const sized =
  "#!/bin/sh\nprintf 'content-type: text/plain\\r\\n\\r\\n'\ncat /srv/made.txt; stat -c '%n %a %u %g' /srv/made.txt; ls /old\n";

function suite(): void {
  const folders: string[] = [];
  const lives: Life[] = [];
  let others: ChildProcess;
  let registry: Registry;
  let daemon: Daemon;

  const start = async (directory?: string): Promise<void> => {
    const resolver = folderOf({ "resolv.conf": `nameserver ${world.public}\n` });
    folders.push(resolver);
    daemon = await startDaemon({
      args: ["--registry", registry.host],
      launcher: launcherWith(join(resolver, "resolv.conf")),
      ...(directory === undefined ? {} : { directory }),
    });
    lives.push(...livesOf(daemon.process.pid ?? 0));
  };
  before(async () => {
    others = await startWorld();
    const base = await layerOf([
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      ...programs.map((name) => ({ name: `bin/${name}`, type: "symlink" as const, linkname: "busybox" })),
      { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\n" },
      { name: "tmp/", type: "directory", mode: 0o1777 },
      { name: "old/kept", content: "kept" },
      { name: "old/gone", content: "gone" },
    ]);
    registry = await startOwnRegistry(imageOf([base], { config: { Env: ["FROM_BASE=yes"], Cmd: ["/bin/sh"] } }));
    await start();
  });
  after(async () => {
    await daemon?.stop();
    await registry?.stop();
    if (others) await stopChild(others);
    if (daemon) folders.push(daemon.directory);
    for (const path of folders) removeDirectory(path);
  });

  /** The daemon asks the world's resolver, in a mount namespace of its own. */
  function launcherWith(resolvers: string): string {
    const folder = folderOf({
      up: `#!/bin/sh\nexec unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "${resolvers}" "${join(installation, "ebb")}" "$@"\n`,
    });
    folders.push(folder);
    const path = join(folder, "up");
    chmodSync(path, 0o755);
    return path;
  }

  function appOf(dockerfile: readonly string[], files: Record<string, string> = {}): string {
    const path = folderOf({
      "ebb.yaml": "containers:\n  built: { build: ./built, public: true, memoryMb: 64, idleSeconds: 0 }\n",
      "built/Dockerfile": dockerfile.join("\n").replaceAll("@base", `${registry.host}/base`),
      ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`built/${name}`, text])),
    });
    folders.push(path);
    return path;
  }

  /** What the RUNs have printed, and why it failed. */
  async function failing(...lines: readonly string[]): Promise<{ readonly printed: string; readonly why: string }> {
    const { code, stderr } = await daemon.ebb(["deploy", appOf(["FROM @base", ...lines])]);
    assert.equal(code, 1, stderr);
    const said = stderr.split("\n");
    const printed = said.flatMap((line) => /^built \| (?!line \d)(.*)$/.exec(line)?.[1] ?? []).join("\n");
    return { printed, why: said.filter((line) => line.startsWith("built: ")).join("\n") };
  }

  const sandboxes = (): string[] => programsOf(lives).filter((program) => /\/(crun|runc)$/.test(program));
  const staged = (): string[] => readdirSync(join(daemon.directory, "images", "staging"));
  const clean = (): Promise<unknown> =>
    eventually("nothing of the build is left", async () => sandboxes().length === 0 && staged().length === 0);

  test("it is what its steps made of it", async () => {
    const app = appOf(
      [
        "ARG VERSION=7",
        "FROM @base AS made",
        "ARG VERSION",
        'ARG WORDS="two  words" NONE EMPTY=',
        "ENV SET=env WORDS2=$WORDS",
        "WORKDIR /work",
        "COPY given.txt .",
        'RUN echo "$VERSION|$WORDS|${NONE-unset}|${EMPTY-unset}|$SET|$WORDS2|$FROM_BASE|$(pwd)|$(id -u)" > made.txt && rm /old/gone && cat given.txt',
        "RUN <<EOF",
        'echo "app:x:1000:1000::/home/app:/bin/sh" >> /etc/passwd',
        "chown 1000:1000 made.txt",
        "chmod 4755 made.txt",
        "EOF",
        "USER app",
        'RUN ["/bin/sh", "-c", "id -u >> made.txt; echo $HOME >> made.txt"]',
        'SHELL ["/bin/sh", "-ec"]',
        "ARG VERSION=8",
        "RUN echo $VERSION >> made.txt; echo shell of $0",
        "FROM @base AS unneeded",
        "RUN false",
        "FROM @base",
        "COPY --from=made /work/made.txt /srv/",
        "RUN --mount=type=cache,target=/root/.cache mkdir -p /srv/cgi-bin /root/.cache && echo x > /root/.cache/x && mv /old/gone /srv/moved",
        "COPY --chmod=755 who /srv/cgi-bin/who",
        "CMD exec httpd -f -p $PORT -h /srv",
      ],
      { "given.txt": "given\n", who: `${sized}ls -a /root 2>/dev/null\n` },
    );
    const { code, stderr } = await daemon.ebb(["deploy", app]);
    assert.equal(code, 0, stderr + daemon.log());
    assert.match(stderr, /^built \| line 8: RUN echo [^]*^built \| given$[^]*^built \| line 9: RUN <<EOF$/m);
    assert.doesNotMatch(stderr, /RUN false/);
    const { text } = await daemon.fetch("built.localhost", "/cgi-bin/who");
    const made = "7|two  words|unset||env|two  words|yes|/work|0\n1000\n/home/app\n8\n";
    assert.equal(text, `${made}/srv/made.txt 755 1000 1000\nkept\n.\n..\n`);
    // The very same again is not built.
    const again = await daemon.ebb(["deploy", app]);
    assert.match(again.stdout, / r1 \(unchanged\)/);
    assert.doesNotMatch(again.stderr, /line 8/);
    // With one changed file behind them, none of its commands is run again; and all are, where that is asked for.
    await writeFile(join(app, "built/who"), `${sized}ls -A /root\n`);
    const changed = await daemon.ebb(["deploy", app]);
    assert.equal(changed.code, 0, changed.stderr + daemon.log());
    assert.equal(changed.stderr.match(/^built \| line \d+: cached: RUN /gm)?.length, 5, changed.stderr);
    assert.doesNotMatch(changed.stderr, /^built \| (line \d+: RUN |given$)/m);
    assert.equal(
      (await daemon.fetch("built.localhost", "/cgi-bin/who")).text,
      `${made}/srv/made.txt 755 1000 1000\nkept\n`,
    );
    const anew = await daemon.ebb(["deploy", app, "--no-cache"]);
    assert.match(anew.stderr, /^built \| line 8: RUN echo [^]*^built \| given$/m);
    assert.doesNotMatch(anew.stderr, /cached/);
    await clean();
  });

  test("it reaches what is public, by name and address, and nothing of the machine, its networks or ebb", async () => {
    const reach = `reach() { if nc -w 3 $1 $2 </dev/null >/dev/null 2>&1; then echo "$1 $2 open"; else echo "$1 $2 closed"; fi; }`;
    const targets: ReadonlyArray<readonly [string, number, "open" | "closed"]> = [
      [world.public, 443, "open"],
      [world.private, 80, "closed"],
      [world.metadata, 80, "closed"],
      ["100.100.100.200", 80, "closed"],
      ["192.168.1.1", 80, "closed"],
      ["127.0.0.1", daemon.port, "closed"],
      [world.machine, daemon.port, "closed"],
      [world.public, 25, "closed"],
    ];
    const { printed } = await failing(
      "RUN <<EOF",
      reach,
      ...targets.map(([host, port]) => `reach ${host} ${port}`),
      "a=$(nslookup -type=a www.example.com | awk '/^Address: [0-9.]+$/ { print $2 }' | tail -n 1); reach $a 443",
      "nslookup -type=a rebind.example.com | grep '^Address: [0-9.]*$'",
      "printf 'GET / HTTP/1.1\\r\\nhost: ebb.internal\\r\\nconnection: close\\r\\n\\r\\n' | nc -w 3 $(awk '/^nameserver/ { print $2 }' /etc/resolv.conf) 80",
      "exit 1",
      "EOF",
      `RUN --network=none nc -w 1 ${world.public} 443 </dev/null`,
    );
    for (const [host, port, how] of targets)
      assert.ok(printed.includes(`${host} ${port} ${how}`), `${host} ${port}: ${printed}`);
    assert.match(printed, /^20\.0\.0\.\d+ 443 open$/m);
    assert.match(printed, /HTTP\/1\.1 401/, "ebb.internal knows nobody there");
    assert.deepEqual(printed.match(/^Address: .*$/gm), ["Address: 20.0.0.10"], "of a name's addresses the public one");
    const { why } = await failing(`RUN --network=none nc -w 1 ${world.public} 443 </dev/null`);
    assert.match(why, /Dockerfile:2: It exited with code 1/);
    // What the operator permits to the project is open to its builds as well.
    const permit = async (what: string): Promise<void> => {
      assert.equal((await daemon.ebb(["projects", "set", "default", "--egress-permit", what])).code, 0);
    };
    await permit(`${world.private}:80`);
    const permitted = await failing(`RUN nc -w 3 ${world.private} 80 </dev/null && echo open; false`);
    assert.match(permitted.printed, /open$/);
    await permit("none");
  });

  test("it finds no credential, no variable and no mount of the machine, and may make no device", async () => {
    await daemon.client.secrets.set("default", "TOKEN", "very-secret");
    const { printed } = await failing(
      "RUN env && cat /proc/self/mountinfo /proc/self/status /proc/1/environ && ls /sys /dev /run/secrets; find / -name '*.json' -o -name '*credentials*'; exit 1",
    );
    const names = printed.split("\n").flatMap((line) => /^([A-Z_]+)=/.exec(line)?.[1] ?? []);
    assert.deepEqual([...new Set(names)].toSorted(), ["FROM_BASE", "HOME", "PATH", "PWD", "SHLVL"]);
    assert.doesNotMatch(printed, /very-secret|ebb_|credentials|\.json/);
    const data = daemon.directory.split("/").at(-1)!;
    assert.ok(!printed.includes(data) && !printed.includes(defaultRunRoot()), printed);
    assert.match(printed, /^CapEff:\s+00000000000004eb$/m);
    assert.match(printed, /^NoNewPrivs:\s+1$/m);
    assert.match(printed, /^Seccomp:\s+2$/m);
    const denied = await failing(
      "RUN mknod /null c 1 3 || echo no device; mount -t tmpfs x /tmp || echo no mount; cat /proc/kcore | wc -c; false",
    );
    assert.match(denied.printed, /no device[^]*no mount/);
  });

  test("bombs, floods and greed end it, and are told as its own", async () => {
    const bomb = await failing("RUN b() { b | b & }; b; sleep 3; echo over; exit 9");
    assert.match(bomb.why, /Dockerfile:2: It (exited with code|was ended by)/);
    const hungry = await failing("RUN dd if=/dev/zero of=/dev/null bs=2100M count=1");
    assert.match(hungry.why, /Dockerfile:2: (It needs more memory than a build has \(2048 MiB|It exited with code)/);
    const full = await failing("RUN for i in 1 2 3; do dd if=/dev/zero of=/f$i bs=1M count=700 || exit 5; done");
    assert.match(full.why, /Dockerfile:2: It exited with code 5/);
    assert.match(full.printed, /No space left on device/);
    const holes = await failing(
      "RUN for i in 1 2 3; do dd if=/dev/zero of=/f$i bs=1M seek=1000 count=1; done",
      "RUN false",
    );
    assert.match(holes.why, /Dockerfile:2: What it has changed cannot be kept: it leaves files of more than 1536 MiB/);
    const loud = await failing(
      "RUN i=0; while [ $i -lt 30000 ]; do echo word $i; i=$((i+1)); done; echo last words; exit 2",
    );
    assert.match(loud.printed, /^word 1999$[^]*it prints more, which is not told$/m);
    assert.match(loud.why, /Dockerfile:2: It exited with code 2/);
    assert.equal((await daemon.fetch("built.localhost", "/cgi-bin/who")).status, 200, "what was there serves on");
    await clean();
  });

  test("what runs on behind it ends with it", async () => {
    const app = appOf(["FROM @base", "RUN sleep 3600 & sleep 3600 & echo begun", "CMD exec httpd -f -p $PORT -h /old"]);
    assert.equal((await daemon.ebb(["deploy", app])).code, 0);
    await clean();
  });

  test("a deploy that is given up in the middle of a RUN leaves nothing", async () => {
    const app = appOf(["FROM @base", "RUN echo begun; sleep 3600"]);
    const child = spawn(join(installation, "ebb"), ["deploy", app, "--data", daemon.directory], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
    await eventually("it runs", async () => said.includes("| begun"), 60_000);
    assert.equal(sandboxes().length, 1);
    await stopChild(child);
    await clean();
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });

  test("ebb that is stopped, or killed with SIGKILL, in the middle of a RUN leaves nothing, and starts again", async () => {
    const { directory } = daemon;
    const first = ["FROM @base", "RUN echo first"];
    await failing("RUN echo first", "RUN false");
    for (const end of ["stop", "kill"] as const) {
      const build = daemon.ebb(["deploy", appOf([...first, `RUN echo ${end}; sleep 3600`])]);
      await eventually("it runs", async () => sandboxes().length === 1, 60_000);
      const before = lives.splice(0);
      await daemon[end]();
      assert.equal((await build).code, 1);
      await nothingLeftOf(before, 20_000);
      await start(directory);
      assert.deepEqual(staged(), []);
    }
    // What had been run before that is kept.
    const { code, stderr } = await daemon.ebb(["deploy", appOf([...first, "CMD exec httpd -f -p $PORT"])]);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^built \| line 2: cached: RUN echo first$/m);
  });

  test("stopped: nothing is left", async () => {
    await daemon.stop();
    await nothingLeftOf(lives);
  });
}

if (whyNot !== null) test("images that are built by running things", { skip: whyNot }, () => {});
else if (insideMachine()) void describe("an image that is built by running things", suite);
