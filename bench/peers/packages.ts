// The peers' npm packages: by the lock file in npm/, in a cache of the bench, never among ebb's own.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** A first install brings 730 packages, 460 MB on disk. */
const installMs = 300_000;
const pinned = join(import.meta.dirname, "npm");
const files = ["package.json", "package-lock.json"];

export interface Packages {
  /** Beside its node_modules. */
  readonly folder: string;
  readonly versionOf: (name: string) => string;
}

/** What is there already, or an install; throws with the reason when neither is. */
export async function peerPackages(): Promise<Packages> {
  const digest = createHash("sha256");
  for (const file of files) digest.update(readFileSync(join(pinned, file)));
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "ebb-bench");
  const folder = join(cache, digest.digest("hex").slice(0, 16));
  if (!existsSync(folder)) {
    // Renamed when it is whole, so that what was interrupted is not taken for an install.
    const partial = `${folder}.${process.pid}`;
    mkdirSync(partial, { recursive: true });
    try {
      await install(partial);
      renameSync(partial, folder);
    } finally {
      rmSync(partial, { recursive: true, force: true });
    }
  }
  const versionOf = (name: string): string =>
    (JSON.parse(readFileSync(join(folder, "node_modules", name, "package.json"), "utf8")) as { version: string })
      .version;
  return { folder, versionOf };
}

async function install(folder: string): Promise<void> {
  console.error(`bench: the peers' npm packages (460 MB in ${folder}; ${installMs / 60_000} minutes at most) …`);
  for (const file of files) copyFileSync(join(pinned, file), join(folder, file));
  const argv = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"];
  const npm = spawn("npm", argv, {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
    timeout: installMs,
    killSignal: "SIGKILL",
  });
  let said = "";
  npm.stderr.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
  const [code] = (await once(npm, "close")) as [number | null];
  if (code !== 0) throw new Error(`npm ci ${code === null ? "took too long" : "failed"}: ${said.split("\n", 1)[0]}`);
}
