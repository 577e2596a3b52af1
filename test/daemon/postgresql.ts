// For tests: a PostgreSQL in the world of a machine of its own, at the private address that `db.internal` leads to.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, chownSync, globSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { execute, inWorld, stopChild, world } from "#network/testing/machine.ts";
import { removeDirectory, temporaryDirectory } from "./fixture.ts";

const programs = globSync("/usr/lib/postgresql/*/bin").toSorted().at(-1);
const password = "correct-horse";

/** Why there can be none; null: there can. */
export const cannotServe = (): string | null => (programs === undefined ? "needs Debian's postgresql" : null);

export interface Database {
  /** As its user; `host` where db.internal is not resolved. */
  url(host?: string): string;
  /** As its administrator; the rows as psql prints them. */
  sql(text: string): Promise<string>;
  /** And nothing of it is left. */
  stop(): Promise<void>;
}

/** With one database and its user, both of this name. */
export async function startDatabase(name: string): Promise<Database> {
  const sockets = temporaryDirectory();
  const data = join(sockets, "data");
  const [uid, gid] = (await Promise.all(["-u", "-g"].map((which) => run("id", [which, "postgres"])))).map(Number);
  chownSync(sockets, uid!, gid!);
  const asOwner = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
  const ways = ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--username=postgres"];
  await run("setpriv", [...asOwner, join(programs!, "initdb"), "--pgdata", data, ...ways]);
  appendFileSync(join(data, "pg_hba.conf"), `host ${name} ${name} 0.0.0.0/0 scram-sha-256\n`);
  const settings = { listen_addresses: world.private, unix_socket_directories: sockets, fsync: "off" };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  const argv = [...inWorld(), "setpriv", ...asOwner, join(programs!, "postgres"), "-D", data, ...options];
  const server = spawn("nsenter", argv, { stdio: ["ignore", "ignore", "pipe"] });
  await new Promise<void>((resolve, reject) => {
    let said = "";
    createInterface({ input: server.stderr }).on("line", (line) => {
      said += `${line}\n`;
      if (line.includes("ready to accept connections")) resolve();
    });
    server.once("exit", () => reject(new Error(said)));
  });
  const ask = (database: string, text: string): Promise<string> => {
    const how = ["-h", sockets, "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-Atc", text];
    return run(join(programs!, "psql"), how);
  };
  for (const text of [`create role ${name} login password '${password}'`, `create database ${name} owner ${name}`])
    await ask("postgres", text);
  return {
    url: (host = "db.internal") => `postgres://${name}:${password}@${host}:5432/${name}`,
    sql: (text) => ask(name, text),
    stop: async () => {
      await stopChild(server);
      removeDirectory(sockets);
    },
  };
}

async function run(file: string, args: readonly string[]): Promise<string> {
  const result = await execute(file, args);
  assert.equal(result.code, 0, `${file} ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}
