// Images, looked at from inside their sandboxes, for both classes: their files and users, what they may do, how they start, end and
// fail to. What only one class has says so.

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Image, ImageConfig } from "#images/door.ts";
import { gvisorOn, openGround, ociOn, plainLinks, whyNot, type Ground } from "../fixtures/harness.ts";
import { imageOf, writeLayer, writePrograms, type LayerFile } from "../fixtures/images.ts";
import type { Assignment, ImagePool, SandboxDriver } from "../door.ts";
import { assignmentOf, get, prepare, startAhead, type Started } from "../suite.ts";
import { serve, served } from "./images-served.testing.ts";
import { namespacesOfLocked } from "./isolation-outside.testing.ts";
import type { OciDriver } from "./oci.ts";

const MiB = 1024 * 1024;

export function runImages(isolation: "container" | "gvisor"): void {
  const programs = ["/usr/sbin/ip", "/bin/busybox", ...(isolation === "gvisor" ? ["/usr/bin/runsc"] : [])];
  describe(`images, class ${isolation}`, { skip: whyNot(programs) ?? false }, () => images(isolation));
}

function images(isolation: "container" | "gvisor"): void {
  const gvisor = isolation === "gvisor";
  let ground: Ground;
  let oci: OciDriver;
  let driver: SandboxDriver;
  let base: string;
  const links = plainLinks();
  const known = new Map<string, Image>();
  let layers = 0;

  before(async () => {
    ground = await openGround();
    base = await writePrograms(join(ground.dataDir, "layers", "base"), [process.execPath]);
    await open();
  });
  after(async () => {
    await oci.stop();
    await ground.close();
    links.close();
  });

  async function open(over: { readonly programStartMs?: number } = {}): Promise<void> {
    oci = ociOn(ground, { network: links, imageOf: (digest) => known.get(digest) ?? null, ...over });
    await oci.start();
    driver = gvisor ? gvisorOn(oci) : oci;
  }

  function image(files: Readonly<Record<string, string | LayerFile>>, config: Partial<ImageConfig> = {}): Image {
    const layer = writeLayer(join(ground.dataDir, "layers", String(++layers)), files);
    const made = imageOf([base, layer], config);
    known.set(made.digest, made);
    return made;
  }

  const poolOf = ({ digest }: Image, over: Partial<ImagePool> = {}): ImagePool => ({
    image: digest,
    memoryMb: 128,
    tmpBytes: 8 * MiB,
    egress: "none",
    ...over,
  });

  const programOf = (command: readonly string[], over: Partial<Assignment> = {}): Assignment =>
    assignmentOf(null, { entry: null, signature: "program", command, ...over });

  async function ask<T>(sandbox: Started, script: string): Promise<T> {
    const { status, body } = await get(driver, sandbox.id, `/${encodeURIComponent(script)}`);
    assert.equal(status, 200, body);
    const value: T = JSON.parse(body);
    return value;
  }

  async function start(of: Image, over: Partial<Assignment> = {}, pool: Partial<ImagePool> = {}): Promise<Started> {
    const sandbox = await prepare(driver, poolOf(of, pool));
    const answer = await driver.assign(sandbox.id, programOf(served, over));
    assert.ok(answer.ok, JSON.stringify(answer));
    return sandbox;
  }

  const status = (sandbox: Started) =>
    ask<Record<string, string>>(
      sandbox,
      `Object.fromEntries(fs.readFileSync("/proc/self/status", "utf8").split("\\n").map((l) => l.split(":\\t")))`,
    );

  describe("of root", () => {
    let root: Started;
    let of: Image;
    before(async () => {
      of = image(
        {
          ...serve,
          "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
          "home/theirs": { text: "theirs", owner: 1000, mode: 0o600 },
          "etc/resolv.conf": "-> ../proc/self/mem",
          "etc/hosts": "-> /etc/passwd",
        },
        { env: { FROM_IMAGE: "yes", LEVEL: "image", "no.name": "x" }, workingDirectory: "/srv/made" },
      );
      root = await start(of, { env: { LEVEL: "revision", SECRET: "s3cret" } });
    });
    after(() => driver.stopSandbox(root.id, 0));

    test("files have the owners that they have in the image, whoever they are outside", async () => {
      assert.deepEqual(
        await ask(root, `[process.getuid(), fs.statSync("/home/theirs").uid, fs.statSync("/").uid]`),
        [0, 1000, 0],
      );
      assert.equal(await ask(root, `fs.readFileSync("/home/theirs", "utf8")`), "theirs");
      // gVisor's kernel tells of its own ids; those outside are its file server's.
      if (gvisor) {
        namespacesOfLocked(root.id);
        return;
      }
      const [inside, outside, size] = (await ask<string>(root, `fs.readFileSync("/proc/self/uid_map", "utf8")`))
        .trim()
        .split(/\s+/)
        .map(Number);
      assert.equal(inside, 0);
      assert.ok(outside! >= 0x7000_0000 && size === 65_536, "root inside is nobody outside");
    });

    test("the environment is the image's with the revision's over it, and no secret in that of its first process's engine", async () => {
      const env = await ask<Record<string, string>>(root, "process.env");
      assert.equal(env["FROM_IMAGE"], "yes");
      assert.equal(env["LEVEL"], "revision");
      assert.equal(env["SECRET"], "s3cret");
      assert.equal(env["PORT"], "8080");
      assert.equal(env["HOME"], "/root");
      assert.match(env["PATH"] ?? "", /^\/usr\/local\/sbin:/);
      assert.equal(env["no.name"], undefined);
      assert.deepEqual(
        Object.keys(env).filter((name) => /^(EBB_LAUNCH|NODE_|LD_|npm_)/.test(name)),
        [],
      );
      const folder = join(ground.allocator.runDir, "sandboxes", root.id);
      for (const name of readdirSync(folder).filter((one) => lstatSync(join(folder, one)).isFile()))
        assert.ok(!readFileSync(join(folder, name), "latin1").includes("s3cret"), name);
    });

    test("a working directory that is missing is made", async () => {
      assert.equal(await ask(root, "process.cwd()"), "/srv/made");
    });

    test("the files that ebb gives are files, whatever links the image had in their place", async () => {
      const files = ["resolv.conf", "hosts", "hostname"].map((name) => `/etc/${name}`);
      for (const path of files) assert.equal(await ask(root, `fs.lstatSync("${path}").isFile()`), true, path);
      assert.match(await ask<string>(root, `fs.readFileSync("/etc/resolv.conf", "utf8")`), /^nameserver /);
      assert.equal(await ask(root, `fs.readFileSync("/etc/passwd", "utf8")`), "root:x:0:0:root:/root:/bin/sh\n");
    });

    test("it may write its files, up to a bound that its memory holds, and the image stays as it is", async () => {
      assert.equal(await ask(root, `code(() => fs.writeFileSync("/srv/new", "x"))`), null);
      assert.equal(await ask(root, `code(() => fs.chownSync("/srv/new", 7, 7))`), null);
      assert.equal(await ask(root, `code(() => fs.rmSync("/home/theirs"))`), null);
      assert.equal(await ask(root, `code(() => fs.writeFileSync("/srv/big", Buffer.alloc(${16 * MiB})))`), "ENOSPC");
      assert.equal(await ask(root, `code(() => fs.rmSync("/srv/big"))`), null);
      assert.equal(readFileSync(join(of.layers[1]!, "home/theirs"), "utf8"), "theirs");
      const other = await start(of);
      assert.equal(await ask(other, `code(() => fs.readFileSync("/srv/new"))`), "ENOENT");
      await driver.stopSandbox(other.id, 0);
    });

    test("root has the seven capabilities of images and cannot get more; nothing gives privileges", async () => {
      const seen = await status(root);
      const seven = "00000000000004eb";
      assert.deepEqual(
        ["CapInh", "CapPrm", "CapEff", "CapBnd"].map((name) => seen[name]),
        ["0000000000000000", seven, seven, seven],
      );
      // gVisor tells neither: what set-user-id programs give is tried below.
      assert.deepEqual([seen["CapAmb"], seen["NoNewPrivs"]], gvisor ? [undefined, undefined] : [seen["CapInh"], "1"]);
      assert.equal(seen["Seccomp"], "2");
    });

    test("its mounts are nosuid and nodev, tell no path of the machine and reach nobody else's", async () => {
      const table = (await ask<string>(root, `fs.readFileSync("/proc/self/mountinfo", "utf8")`)).trim().split("\n");
      const byPoint = new Map(table.map((line) => [line.split(" ")[4]!, line]));
      // gVisor does not tell the flags: a device and a set-user-id program are tried below.
      assert.match(byPoint.get("/") ?? "", gvisor ? / rw / : / rw,nosuid,nodev,/);
      for (const line of table) {
        assert.ok(!/\b(shared|propagate_from):/.test(line), line);
        assert.ok(!/\/(home|work|tmp|root|var)\//.test(line), line);
      }
      if (gvisor) assert.deepEqual(await ask(root, `fs.readdirSync("/sys/firmware")`), []);
      else assert.ok(!byPoint.has("/sys"), "there is nothing of the machine in /sys");
    });

    test("devices are the harmless ones, none can be made, and what tells about the machine is masked", async () => {
      const devices = await ask<string[]>(root, `fs.readdirSync("/dev")`);
      const harmless = new Set(
        ".ebb core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split(" "),
      );
      // Two are of gVisor's kernel, and lead to nothing of the machine's.
      assert.deepEqual(
        devices.filter((name) => !harmless.has(name)),
        gvisor ? ["fuse", "net"] : [],
      );
      assert.notEqual(
        await ask(root, `require("child_process").spawnSync("mknod", ["/srv/disk", "b", "8", "0"]).status`),
        0,
      );
      for (const path of ["/proc/kcore", "/proc/keys", "/proc/kallsyms"])
        assert.equal(
          await ask(root, `(() => { try { return fs.readFileSync("${path}").length } catch { return 0 } })()`),
          0,
        );
      // Of these gVisor has the last, of its own network stack, and lets its root write it.
      const settings = ["sys/kernel/core_pattern", "sys/vm/drop_caches", "sysrq-trigger", "sys/net/ipv4/ip_forward"];
      const forwards = readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8");
      if (gvisor) await ask(root, `code(() => fs.writeFileSync("/proc/${settings.pop()}", "${1 - Number(forwards)}"))`);
      assert.equal(readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8"), forwards);
      for (const path of settings)
        assert.notEqual(await ask(root, `code(() => fs.writeFileSync("/proc/${path}", "0"))`), null, path);
    });

    test("with its capabilities root still leaves no namespace, mounts nothing and changes nothing of the machine", async () => {
      const fails = async (...argv: string[]): Promise<void> => {
        const ran = `(({ status, signal }) => status ?? signal)(require("child_process").spawnSync(...${JSON.stringify([argv[0], argv.slice(1)])}))`;
        assert.notEqual(await ask(root, ran), 0, argv.join(" "));
      };
      await fails("mount", "-t", "tmpfs", "none", "/srv");
      await fails("mount", "-o", "remount,suid,dev", "/");
      await fails("umount", "-l", "/proc");
      await fails("chroot", "/srv", "/bin/true");
      await fails("unshare", "-U", "true");
      await fails("unshare", "-m", "true");
      await fails("hostname", "other");
      await fails("nice", "-n", "-5", "true");
      await fails("ip", "link", "set", "eth0", "down");
      await fails("ip", "address", "add", "100.127.255.77/32", "dev", "eth0");
      await fails("arping", "-c", "1", "-w", "1", "100.127.255.1");
      await fails("swapoff", "-a");
      await fails("dmesg");
      const date = `require("child_process").spawnSync("date", ["-s", "2030-01-01 00:00:00"]).stderr.toString()`;
      assert.match(await ask(root, date), /can't set date/);
      const spared = await ask(root, `code(() => fs.writeFileSync("/proc/1/oom_score_adj", "-1000"))`);
      assert.equal(spared, gvisor ? null : "EACCES");
      // It is a number of gVisor's own: outside everything stays as it was.
      if (gvisor) namespacesOfLocked(root.id);
    });

    test("it sees its own processes, network and names alone", async () => {
      const numbers = await ask<string[]>(root, `fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))`);
      assert.deepEqual(numbers, ["1"]);
      const devices = await ask<string>(root, `fs.readFileSync("/proc/net/dev", "utf8")`);
      assert.deepEqual(
        devices
          .trim()
          .split("\n")
          .slice(2)
          .map((line) => line.split(":")[0]!.trim())
          .toSorted(),
        ["eth0", "lo"],
      );
      for (const name of gvisor ? [] : ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
        assert.notEqual(
          await ask(root, `fs.readlinkSync("/proc/self/ns/${name}")`),
          readlinkSync(`/proc/self/ns/${name}`),
        );
      assert.equal(await ask(root, `require("os").hostname()`), "sandbox");
    });

    test("what set-user-id programs would give is nothing: the bit is kept, and ignored", async () => {
      const shell = `sh -c "cp /bin/busybox /srv/id && chmod 4755 /srv/id && chown 7:7 /srv/id && ls -l /srv/id"`;
      assert.match(
        await ask(root, `require("child_process").execSync(${JSON.stringify(shell)}).toString()`),
        /^-rw[sS]r-xr-x|^-rwxr-xr-x/,
      );
      const asOther = `require("child_process").execFileSync("/srv/id", ["id", "-u"], { uid: 1000, gid: 1000, argv0: "busybox" }).toString().trim()`;
      assert.equal(await ask(root, asOther), "1000");
    });

    test("processes, open files and core dumps are limited as a function's are", async () => {
      if (gvisor) {
        const told = await ask<Record<string, { readonly hard: unknown }>>(
          root,
          "process.report.getReport().userLimits",
        );
        assert.deepEqual([told["open_files"]?.hard, told["core_file_size_blocks"]?.hard], [1_024, 0]);
        return;
      }
      const limits = await ask<string>(root, `fs.readFileSync("/proc/self/limits", "utf8")`);
      for (const [name, value] of [
        ["Max open files", 1_024],
        ["Max core file size", 0],
        ["Max processes", 512],
      ] as const)
        assert.match(limits, new RegExp(`^${name} +${value} `, "m"));
    });

    test("the shell that waited cannot be written, nor what it is a copy of", async () => {
      for (const path of ["/dev/.ebb/sh", "/dev/.ebb/new"])
        assert.equal(await ask(root, `code(() => fs.writeFileSync("${path}", "x"))`), "EROFS");
    });

    test("it has no descriptor but its own, and none leads out of its root", async () => {
      const first = `fs.readdirSync("/proc/1/fd").slice(0, 3).map((fd) => fs.readlinkSync("/proc/1/fd/" + fd))`;
      const [input, ...outputs] = await ask<string[]>(root, first);
      assert.equal(input, "/dev/null");
      for (const output of outputs) assert.ok(!output.startsWith("/tmp") && !output.startsWith("/work"), output);
    });
  });

  test("another user of the image has no capability, its own home and groups, and cannot become root", async () => {
    const accounts = {
      "etc/passwd": "app:x:1234:1235::/home/app:/bin/sh\n",
      "etc/group": "app:x:1235:\nextra:x:77:app\n",
    };
    const sandbox = await start(image({ ...serve, ...accounts }, { user: "app" }));
    const seen = await status(sandbox);
    for (const name of ["CapPrm", "CapEff", "CapBnd"]) assert.equal(seen[name], "0000000000000000", name);
    assert.deepEqual(await ask(sandbox, "[process.getuid(), process.getgid(), process.getgroups()]"), [
      1234,
      1235,
      [77, 1235],
    ]);
    assert.equal(await ask(sandbox, "process.env.HOME"), "/home/app");
    assert.equal(await ask(sandbox, "code(() => process.setuid(0))"), "EPERM");
    // What an image's log files often are links to.
    assert.equal(await ask(sandbox, `code(() => fs.appendFileSync("/dev/stdout", "line\\n"))`), null);
    await driver.stopSandbox(sandbox.id, 0);
  });

  test("an image without shell, passwd or folders starts: a static program alone", async () => {
    const layer = writeLayer(join(ground.dataDir, "layers", "scratch"), {});
    writeFileSync(join(layer, "busybox"), readFileSync("/bin/busybox"), { mode: 0o755 });
    const only = imageOf([layer]);
    known.set(only.digest, only);
    const sandbox = await prepare(driver, poolOf(only));
    const answer = await driver.assign(sandbox.id, programOf(["/busybox", "httpd", "-f", "-p", "8080", "-h", "/etc"]));
    assert.ok(answer.ok, JSON.stringify(answer));
    assert.equal((await get(driver, sandbox.id, "/hostname")).status, 200);
    await driver.stopSandbox(sandbox.id, 0);
  });

  test("one that was started ahead becomes an instance, and a path probe waits until it passes", async () => {
    const sandbox = await startAhead(driver, poolOf(image(serve)));
    const answer = await driver.assign(
      sandbox.id,
      programOf(served, { probe: { http: "/ready" }, env: { NOT_READY: "3" }, takeWithinMs: 2_000 }),
    );
    assert.ok(answer.ok, JSON.stringify(answer));
    assert.equal(await ask(sandbox, "globalThis.asked"), 4);
    await driver.stopSandbox(sandbox.id, 0);
  });

  test("the image's stop signal is what asks it to end", async () => {
    const trap = "trap 'echo >/srv/x; exit 7' QUIT; node /srv/serve.mjs & wait";
    const of = image(serve, { stopSignal: "SIGQUIT" });
    const sandbox = await prepare(driver, poolOf(of));
    const answer = await driver.assign(sandbox.id, programOf(["sh", "-c", trap]));
    assert.ok(answer.ok, JSON.stringify(answer));
    await driver.stopSandbox(sandbox.id, 60_000);
    assert.deepEqual(await sandbox.exited, { reason: "stopped", code: 7, message: "ebb stopped it." });
  });

  async function failure(of: Image, command: readonly string[], over: Partial<Assignment> = {}): Promise<string> {
    const sandbox = await prepare(driver, poolOf(of));
    const answer = await driver.assign(sandbox.id, programOf(command, over));
    await sandbox.exited;
    assert.ok(!answer.ok);
    assert.equal(answer.failure.fault, "function");
    return answer.failure.message;
  }

  test("what cannot start is told in words: no such program, not to be run, ended", async () => {
    const of = image({ ...serve, "srv/plain": "text" });
    assert.equal(
      await failure(of, ["/nowhere/server"]),
      'It exited with code 127: "/nowhere/server", or a program that it calls, is not in the image.',
    );
    assert.match(
      await failure(of, ["/srv/plain"]),
      /code 126: "\/srv\/plain", or .* cannot be run in \/ by the image's user/,
    );
    assert.equal(await failure(of, ["false"]), "It ended before it could serve. It exited with code 1.");
  });

  test("a file system that is not as promised is no start: a link in the place of /proc, /dev or /etc", async () => {
    const canary = join(ground.dataDir, "canary");
    mkdirSync(canary);
    for (const name of ["proc", "dev", "etc"]) {
      const sandbox = prepare(driver, poolOf(image({ [name]: `-> ${canary}` })));
      await assert.rejects(sandbox, new RegExp(`the image's /${name} is no folder`));
    }
    assert.deepEqual(readdirSync(canary), []);
    rmSync(canary, { recursive: true });
  });

  test("an image whose code would be loaded into the shell that waits is no start", async () => {
    for (const text of ["/lib/own.so", "-> /lib/list"]) {
      const sandbox = prepare(driver, poolOf(image({ ...serve, "etc/ld.so.preload": text })));
      await assert.rejects(sandbox, /it has \/etc\/ld\.so\.preload/);
    }
  });

  test("a user whom the image does not know, and an image that is not there, are told in words", async () => {
    await assert.rejects(prepare(driver, poolOf(image(serve, { user: "www" }))), /user "www", who is not in its/);
    await assert.rejects(prepare(driver, poolOf(imageOf([base]))), /is not on this machine any more/);
  });

  test("one that is to leave a result is refused where that cannot be: what is mounted would go where a link leads", async () => {
    const file = image({ ...serve, ebb: "mine" });
    await assert.rejects(
      prepare(driver, poolOf(file, { toEnd: true })),
      /cannot be run: the image's \/ebb is no folder/,
    );
    const link = image({ ...serve, ebb: "-> /etc" });
    await assert.rejects(
      prepare(driver, poolOf(link, { toEnd: true })),
      /cannot be run: the image's \/ebb is no folder/,
    );
    const folder = image({ ...serve, "ebb/result/x": "mine" });
    await assert.rejects(prepare(driver, poolOf(folder, { toEnd: true })), /the image's \/ebb\/result is no file/);
    await driver.stopSandbox((await prepare(driver, poolOf(link))).id, 0);
  });

  test("more than its memory ends it alone, and what it wrote to files counts", async () => {
    const sandbox = await start(image(serve), {}, { memoryMb: 96, tmpBytes: 256 * MiB });
    await get(
      driver,
      sandbox.id,
      `/${encodeURIComponent(`fs.writeFileSync("/srv/big", Buffer.alloc(${80 * MiB}, 1))`)}`,
    ).catch(() => {});
    assert.equal((await sandbox.exited).reason, "memory");
  });

  test("nothing is left: no mount, no folder, no process", async () => {
    await oci.stop();
    const { runDir } = ground.allocator;
    assert.ok(!readFileSync("/proc/self/mountinfo", "latin1").includes(`${runDir}/sandboxes`));
    assert.deepEqual(readdirSync(join(runDir, "sandboxes")), []);
    assert.equal(links.open, 0);
  });

  test("what never listens is told so, with the way on, when its time is up", async () => {
    await open({ programStartMs: 300 });
    const sandbox = await prepare(driver, poolOf(image({})));
    const answer = await driver.assign(sandbox.id, programOf(["sleep", "60"]));
    assert.ok(!answer.ok);
    assert.equal(answer.failure.message, "Nothing listened on port 8080 within 0.3 s.");
    assert.match(answer.failure.hint ?? "", /must listen on 0\.0\.0\.0/);
    await sandbox.exited;
  });
}
