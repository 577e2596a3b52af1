// `podman run` of an image made here: for the comparison from nothing but the pinned Node, its libraries and the server's file.

import { execFile, execFileSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { bareServer } from "./npm-peers.ts";
import { contenderOf } from "./program.ts";
import type { Contender } from "./contender.ts";

const run = promisify(execFile);
const image = "localhost/ebb-bench-hello";

/** In `folder`, which the caller removes: image, storage and state too. Throws when it cannot be had here. */
export async function podman(folder: string): Promise<Contender> {
  const archive = join(folder, "image.tar");
  execFileSync("tar", ["-C", rootIn(folder), "-cf", archive, "."]);
  return podmanRun(folder, archive, ["/usr/bin/node", "/code/server.mjs"]);
}

/** The same of the files in `archive`, a tar. */
export async function podmanRun(folder: string, archive: string, command: readonly string[]): Promise<Contender> {
  const { stdout: version } = await run("podman", ["--version"]).catch(() => {
    throw new Error("podman is not installed (Debian: apt-get install podman)");
  });
  const state = ["--root", join(folder, "storage"), "--runroot", join(folder, "run"), "--tmpdir", join(folder, "tmp")];
  const common = [...state, "--cgroup-manager", "cgroupfs", "--events-backend", "none"];
  const change = `CMD ${JSON.stringify(command)}`;
  await run("podman", [...common, "import", "--quiet", "--change", change, archive, image]);
  let count = 0;
  let name = "";
  return contenderOf({
    name: "`podman run`, host network",
    version: version.trim().replace(/^podman version /, ""),
    isolates:
      "a container with the host's root and network: pid, mount, ipc and uts namespaces, seccomp, few capabilities; here no user namespace and no limit",
    cwd: folder,
    env: {},
    command(port) {
      name = `ebb-bench-${process.pid}-${count++}`;
      // Without cgroups, which podman would leave behind; with limits that may be set where the hard ones may not be raised.
      const kept = ["--rm", "--name", name, "--cgroups", "disabled", "--log-driver", "none"];
      // A bench that was killed does not leave it for ever.
      kept.push("--timeout", "1800");
      const limits = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];
      return ["podman", ...common, "run", ...kept, ...limits, "--network", "host", "--env", `PORT=${port}`, image];
    },
    // The container is no child of the command; where it never came to one, there is only the command.
    async end(child: ChildProcess) {
      const exited = once(child, "exit");
      await run("podman", [...common, "rm", "--force", "--ignore", "--time", "0", name]);
      child.kill("SIGKILL");
      await exited;
    },
  });
}

function rootIn(folder: string): string {
  const root = join(folder, "root");
  for (const path of ["usr/bin", "code", "tmp"]) mkdirSync(join(root, path), { recursive: true });
  copyFileSync(process.execPath, join(root, "usr/bin/node"));
  writeFileSync(join(root, "code/server.mjs"), bareServer);
  const linked = execFileSync("ldd", [process.execPath], { encoding: "utf8" });
  for (const [library] of linked.matchAll(/(?<=\s)\/\S+/g)) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
  return root;
}
