// The store's worker may die at any moment, the disk may be full, the directory may be somebody else's: one clear answer each.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { systemClock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import { storeLimits } from "#model/limits.ts";
import { createStore } from "./client.ts";
import type { Store } from "./door.ts";
import { change, deploy, project } from "./fixtures/things.ts";
import { lockDirectory } from "./lock.ts";
import { deployedOf, eachPart } from "./parts.ts";
import { createSqliteDriver } from "./sqlite/driver.ts";
import { migrate } from "./sqlite/migrate.ts";
import { NodeSqlite, nodeSqliteDialect } from "./sqlite/dialect.ts";
import { Kysely } from "kysely";
import type { Schema } from "./sqlite/schema.ts";

const failsWith =
  (code: string, words: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof EbbError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    return true;
  };

/** Until the store answers again: each refusal is the one that says "repeat". */
const answers = async (store: Store): Promise<void> => {
  for (;;)
    try {
      await store.load();
      return;
    } catch (error) {
      failsWith("store_unavailable", /./)(error);
      await new Promise((resolve) => setImmediate(resolve));
    }
};

describe("store client", () => {
  let directory: string;
  let facts: Fact[];
  let workers: Worker[];
  let fatal: Promise<string>;
  /** What was waited for, by the clock. */
  let waitedMs: number[];
  const stores: Store[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "ebb-store-"));
    facts = [];
    workers = [];
    waitedMs = [];
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const create = (at = directory): ReturnType<typeof createStore> => {
    let failed!: (reason: string) => void;
    fatal = new Promise((resolve) => (failed = resolve));
    const created = createStore({
      directory: at,
      clock: {
        wallMs: () => systemClock.wallMs(),
        monotonicUs: () => systemClock.monotonicUs(),
        after: (ms, run) => {
          waitedMs.push(ms);
          return systemClock.after(ms, run);
        },
      },
      tell: (fact) => facts.push(fact),
      fatal: failed,
      startWorker(workerData) {
        const worker = new Worker(new URL("../threads/store.ts", import.meta.url), { workerData });
        workers.push(worker);
        return worker;
      },
    });
    stores.push(created.store);
    return created;
  };
  it("refuses to work before it is started and after it is stopped", async () => {
    const { store } = create();
    await assert.rejects(store.load(), failsWith("store_unavailable", /not running/));
    await store.start();
    await store.stop();
    await assert.rejects(store.load(), failsWith("store_unavailable", /not running/));
    await store.start();
    await store.load();
  });

  it("finds everything again after a stop", async () => {
    const first = create();
    await first.store.start();
    await first.store.apply(change({ kind: "put_project", project: project("p") }, ...deploy("p", "a", 4)));
    await first.store.stop();
    const second = create();
    await second.store.start();
    assert.equal(second.mirror.workload("p", "a")?.revision.number, 4);
    assert.equal(second.mirror.project("p")?.name, "p");
  });

  it("answers store_unavailable when its worker dies, and is back by itself with what was committed", async () => {
    const { store, mirror } = create();
    await store.start();
    const outcomes = { done: 0, unknown: 0 };
    let heard = 0;
    mirror.onChange((mutations) => (heard += mutations.length));
    const under = Array.from({ length: 200 }, (_, n) =>
      store.apply(change({ kind: "put_project", project: project(`p${n}`) })).then(
        () => outcomes.done++,
        (error: unknown) => {
          failsWith("store_unavailable", /not known/)(error);
          outcomes.unknown++;
        },
      ),
    );
    await under[20];
    await workers[0]!.terminate();
    await assert.rejects(store.load(), failsWith("store_unavailable", /restarting/));
    await Promise.all(under);
    await answers(store);
    // That is what "within a second" is made of: one start of a thread, and nothing that is waited for before it.
    assert.deepEqual([workers.length, waitedMs], [2, [0]]);
    assert.ok(outcomes.done >= 21 && outcomes.unknown > 0, JSON.stringify(outcomes));
    const { projects } = await store.load();
    assert.ok(projects.length >= outcomes.done);
    assert.deepEqual(new Set(Array.from(mirror.projects(), (of) => of.name)), new Set(projects.map((of) => of.name)));
    assert.equal(heard, projects.length, "listeners heard of each, once");
    assert.deepEqual(
      facts.map((fact) => fact.kind),
      ["worker_restarted"],
    );
  });

  it("gives up after three deaths within a minute, with the reason", async () => {
    const { store } = create();
    await store.start();
    for (let death = 1; death <= 3; death++) {
      await workers.at(-1)!.terminate();
      if (death < 3) await answers(store);
    }
    assert.match(await fatal, /died 3 times within a minute/);
    await assert.rejects(store.load(), failsWith("store_unavailable", /./));
    assert.equal(workers.length, 3);
    assert.deepEqual(waitedMs, [0, storeLimits.restartDelayMs]);
  });

  it("bounds what waits for an answer", async () => {
    const { store } = create();
    await store.start();
    const all = Array.from({ length: storeLimits.inFlight + 5 }, () => store.retention());
    const settled = await Promise.allSettled(all);
    const refused = settled.filter((one) => one.status === "rejected");
    assert.equal(refused.length, 5);
    for (const one of refused) failsWith("store_unavailable", /requests waiting/)(one.reason);
  });

  it("passes an answer's order on to the mirror", async () => {
    const { store, mirror } = create();
    await store.start();
    const seen: number[] = [];
    mirror.onChange(() => seen.push(mirror.workload("p", "a")?.workload.current ?? 0));
    const numbers = Array.from({ length: 30 }, (_, n) => n + 1);
    await Promise.all(numbers.map((n) => store.apply(change(...deploy("p", "a", n)))));
    assert.deepEqual(seen, numbers);
  });

  it("names the process that uses the directory, and takes it over when that one is killed", async () => {
    const lockFile = new URL("./lock.ts", import.meta.url).href;
    const script = `const { lockDirectory } = await import(${JSON.stringify(lockFile)});
      lockDirectory(${JSON.stringify(directory)}); console.log("locked"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
      cwd: new URL("../..", import.meta.url),
    });
    try {
      await once(child.stdout, "data");
      const { store } = create();
      await assert.rejects(
        store.start(),
        failsWith("data_directory", new RegExp(`in use by another ebb \\(process ${child.pid}\\)`)),
      );
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
      await store.start();
      assert.equal(readFileSync(join(directory, "pid"), "utf8"), `${process.pid}\n`);
    } finally {
      child.kill("SIGKILL");
    }
  });

  it("keeps what is stored from other users, also what an older ebb left open to them", async () => {
    const files = ["lock.db", "ebb.db", "ebb.db-wal", "ebb.db-shm"].map((name) => join(directory, name));
    const modes = (): number[] => files.map((path) => statSync(path).mode & 0o777);
    const first = create();
    await first.store.start();
    assert.deepEqual(modes(), [0o600, 0o600, 0o600, 0o600]);
    await first.store.stop();
    for (const name of ["lock.db", "ebb.db"]) chmodSync(join(directory, name), 0o644);
    await create().store.start();
    assert.deepEqual(modes(), [0o600, 0o600, 0o600, 0o600]);
  });

  it("refuses a second store on one directory in one process too", async () => {
    const { store } = create();
    await store.start();
    await assert.rejects(create().store.start(), failsWith("data_directory", /in use/));
    await store.load();
    await store.stop();
    lockDirectory(directory).release();
  });

  it("says that a database is broken", async () => {
    writeFileSync(join(directory, "ebb.db"), "this was a database once".repeat(500));
    await assert.rejects(create().store.start(), failsWith("data_directory", /is broken.*ebb\.db is damaged/));
    writeFileSync(join(directory, "lock.db"), "and so was this".repeat(500));
    await assert.rejects(create().store.start(), failsWith("data_directory", /lock\.db .* is damaged.*: remove it/));
  });

  it("says that a table is broken", async () => {
    const { store } = create();
    await store.start();
    for (let n = 0; n < 20; n++) await store.apply(change(...deploy("p", `a${n}`)));
    await store.stop();
    const file = readFileSync(join(directory, "ebb.db"));
    const pageBytes = 4_096;
    const at = file.indexOf("digest-a3-1");
    file.fill(0x5a, Math.floor(at / pageBytes) * pageBytes, (Math.floor(at / pageBytes) + 1) * pageBytes);
    writeFileSync(join(directory, "ebb.db"), file);
    await assert.rejects(create().store.start(), failsWith("data_directory", /is broken/));
  });

  it("says that the revision that a workload serves is missing, or unreadable", async () => {
    const spoil = (sql: string): void => {
      const database = new DatabaseSync(join(directory, "ebb.db"));
      database.exec(sql);
      database.close();
    };
    const { store } = create();
    await store.start();
    await store.apply(change(...deploy("p", "a")));
    await store.stop();
    spoil("update revisions set body = '{' || body");
    await assert.rejects(create().store.start(), failsWith("data_directory", /is broken.*ebb\.db is damaged/));
    spoil("delete from revisions");
    await assert.rejects(
      create().store.start(),
      failsWith("data_directory", /is broken.*revision of p\/a .* is missing/),
    );
  });

  it("reads what exists in parts, and all of it", async () => {
    const names = Array.from({ length: 2 * storeLimits.partWorkloads }, (_, index) => `w${index}`);
    const first = create();
    await first.store.start();
    await first.store.apply(change(...names.flatMap((name) => deploy("p", name)), ...deploy("q", "a")));
    await first.store.stop();
    const driver = createSqliteDriver({ directory, nowMs: Date.now });
    await driver.open();
    const counts: number[] = [];
    await eachPart(
      (after) => driver.load(after),
      (part) => counts.push(deployedOf(part).length),
    );
    await driver.close();
    assert.deepEqual(counts, [storeLimits.partWorkloads, storeLimits.partWorkloads, 1]);
    const { store, mirror } = create();
    await store.start();
    assert.deepEqual(
      Array.from(mirror.workloads("p"), ({ workload }) => workload.workload).toSorted(),
      names.toSorted(),
    );
    assert.equal(mirror.count("q"), 1);
    assert.equal((await store.load()).workloads.length, names.length + 1);
  });

  it("says that the directory was written by a newer ebb, and leaves it as it is", async () => {
    const { store } = create();
    await store.start();
    await store.stop();
    const database = new DatabaseSync(join(directory, "ebb.db"));
    database.exec("insert into schema_migrations values (999, 'later', 0)");
    database.close();
    await assert.rejects(create().store.start(), failsWith("data_directory", /written by a newer ebb \(schema 999/));
  });

  it("says that the directory is a file, or may not be written", async () => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    await assert.rejects(create(file).store.start(), failsWith("data_directory", /not a directory/));
    await assert.rejects(create(join(file, "in")).store.start(), failsWith("data_directory", /not a directory/));
    const closed = join(directory, "closed");
    mkdirSync(closed, { mode: 0o500 });
    // Root writes where it likes, but there.
    if (process.platform === "linux" && process.getuid?.() === 0) {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", closed]);
      try {
        await assert.rejects(create(closed).store.start(), failsWith("data_directory", /may not write.*EROFS/));
      } finally {
        execFileSync("umount", [closed]);
      }
    } else await assert.rejects(create(closed).store.start(), failsWith("data_directory", /may not write.*EACCES/));
  });
});

const up = (sql: string) => async (db: Kysely<unknown>) => {
  for (const statement of sql.split(";")) await db.executeQuery({ sql: statement, parameters: [] } as never);
};
const open = (): Kysely<Schema> =>
  new Kysely<Schema>({ dialect: nodeSqliteDialect(new NodeSqlite(new DatabaseSync(":memory:"))) });

describe("migrations", () => {
  it("run once, in their order, and one that fails leaves nothing of itself", async () => {
    const db = open();
    const options = { directory: "d", nowMs: 5 };
    const one = { number: 1, name: "one", up: up("create table one (a int)") };
    const two = { number: 2, name: "two", up: up("create table two (a int);insert into two values (1)") };
    const bad = { number: 2, name: "bad", up: up("create table two (a int);this is not sql") };
    await assert.rejects(migrate(db, { ...options, migrations: [one, bad] }), /syntax error/);
    await migrate(db, { ...options, migrations: [one, two] });
    await migrate(db, { ...options, migrations: [one, two] });
    const rows = await db.selectFrom("schema_migrations").selectAll().execute();
    assert.deepEqual(
      rows.map(({ number, name, applied_ms }) => ({ number, name, applied_ms })),
      [
        { number: 1, name: "one", applied_ms: 5 },
        { number: 2, name: "two", applied_ms: 5 },
      ],
    );
    await assert.rejects(migrate(db, { ...options, migrations: [one] }), failsWith("data_directory", /newer ebb/));
    await db.destroy();
  });
});
