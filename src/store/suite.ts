// What every driver of the store must do, whatever it stores in.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it as behaviour } from "node:test";
import { EbbError } from "#model/errors.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import { jobLimits, storeLimits } from "#model/limits.ts";
import { packRecords } from "#model/record-block.ts";
import type { Run } from "#model/run.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { Mirror, Mutation, RunQuery, Store, UsageQuery } from "./door.ts";
import type { StoreDriver } from "./driver.ts";
import {
  audit,
  change,
  deploy,
  project,
  record,
  revision,
  run,
  secret,
  token,
  total,
  workload,
} from "./fixtures/things.ts";

export interface StoreUnderTest {
  readonly store: Store;
  readonly mirror: Mirror;
  /** The same data, for what the loader and retention do. */
  readonly ledger: StoreDriver;
  close(): Promise<void>;
}

type It = (name: string, run: () => Promise<void>) => void;

const failsWith = (code: string) => (error: unknown) => error instanceof EbbError && error.code === code;
const day = 86_400_000;

/** `only`: these behaviours; all of them where it is left out. */
export function storeSuite(name: string, open: () => Promise<StoreUnderTest>, only?: readonly string[]): void {
  describe(`store: ${name}`, () => {
    let under: StoreUnderTest;
    const unknown = new Set(only);
    const it: It = (name, run) => {
      if (only === undefined || unknown.delete(name)) void behaviour(name, run);
    };
    beforeEach(async () => {
      under = await open();
    });
    afterEach(() => under.close());
    existing(it, () => under);
    following(it, () => under);
    auditing(it, () => under);
    ledger(it, () => under);
    retention(it, () => under);
    assert.deepEqual([...unknown], [], "is no behaviour of the suite");
  });
}

function existing(it: It, under: () => StoreUnderTest): void {
  it("is empty at first", async () => {
    const { store, mirror } = under();
    const empty = { projects: [], workloads: [], revisions: [], tokens: [], secrets: [] };
    assert.deepEqual(await store.load(), empty);
    assert.deepEqual([...mirror.workloads()], []);
    assert.equal(mirror.project("default"), null);
  });

  it("shows a change in the mirror when apply resolves, and in load", async () => {
    const { store, mirror } = under();
    const of = project("photos", 5);
    const mutations: Mutation[] = [{ kind: "put_project", project: of }, ...deploy("photos", "thumb")];
    mutations.push({ kind: "put_token", token: token("t1", "photos") });
    mutations.push({ kind: "put_secret", secret: secret("photos", "KEY") });
    await store.apply(change(...mutations));
    assert.deepEqual(mirror.project("photos"), of);
    assert.deepEqual(mirror.workload("photos", "thumb")?.revision, revision("photos", "thumb"));
    assert.equal(mirror.tokenByHash("hash-t1")?.id, "t1");
    assert.deepEqual([...mirror.tokens("photos")].length, 1);
    assert.deepEqual(mirror.secret("photos", "KEY"), secret("photos", "KEY"));
    const loaded = await store.load();
    assert.deepEqual(loaded.projects, [of]);
    assert.deepEqual(loaded.workloads, [workload("photos", "thumb")]);
    assert.deepEqual(loaded.revisions, [revision("photos", "thumb")]);
    assert.deepEqual(loaded.tokens, [token("t1", "photos")]);
    assert.deepEqual(loaded.secrets, [secret("photos", "KEY")]);
  });

  it("tells listeners of each change, after the mirror shows it", async () => {
    const { store, mirror } = under();
    const seen: unknown[] = [];
    mirror.onChange((mutations) => seen.push([mutations.length, mirror.workload("p", "a")?.workload.current]));
    await store.apply(change(...deploy("p", "a", 3)));
    assert.deepEqual(seen, [[2, 3]]);
  });

  it("rolls back to a revision that only the store still has", async () => {
    const { store, mirror } = under();
    await store.apply(change(...deploy("p", "a", 1)));
    await store.apply(change(...deploy("p", "a", 2)));
    await store.apply(change({ kind: "put_workload", workload: workload("p", "a", 1) }));
    assert.equal(mirror.workload("p", "a")?.revision.number, 1);
    assert.deepEqual(
      (await store.revisions({ project: "p", workload: "a" })).map((of) => of.number),
      [2, 1],
    );
  });

  it("applies all of a change or nothing of it", async () => {
    const { store, mirror } = under();
    await store.apply(change(...deploy("p", "a", 1)));
    const bad = change(
      { kind: "put_project", project: project("q") },
      { kind: "put_workload", workload: workload("p", "a", 9) },
    );
    await assert.rejects(store.apply(bad), failsWith("not_found"));
    assert.equal(mirror.project("q"), null);
    assert.deepEqual((await store.load()).projects, []);
    assert.equal((await store.load()).workloads[0]?.current, 1);
    assert.equal((await store.audits({ project: null, sinceMs: 0, limit: 10 })).length, 1);
  });

  it("keeps the revision that serves, and removes others", async () => {
    const { store } = under();
    const key = { project: "p", workload: "a" };
    await store.apply(change(...deploy("p", "a", 1)));
    await store.apply(change(...deploy("p", "a", 2)));
    await assert.rejects(store.apply(change({ kind: "remove_revision", key, number: 2 })), failsWith("conflict"));
    assert.deepEqual(await store.contentDigests(), new Set(["code-a-1", "code-a-2"]));
    await store.apply(change({ kind: "remove_revision", key, number: 1 }));
    assert.deepEqual(await store.contentDigests(), new Set(["code-a-2"]));
    assert.equal((await store.revisions(key)).length, 1);
  });

  it("takes with a workload its revisions, and with a project all that it owns", async () => {
    const { store, mirror } = under();
    await store.apply(change({ kind: "put_project", project: project("p") }, ...deploy("p", "a"), ...deploy("p", "b")));
    await store.apply(
      change(
        { kind: "put_token", token: token("t1", "p") },
        { kind: "put_token", token: token("t2", null) },
        { kind: "put_secret", secret: secret("p", "S") },
      ),
    );
    await store.apply(change({ kind: "remove_workload", key: { project: "p", workload: "a" } }));
    assert.equal(mirror.workload("p", "a"), null);
    assert.deepEqual(await store.contentDigests(), new Set(["code-b-1"]));
    await store.apply(change({ kind: "remove_project", project: "p" }));
    assert.deepEqual(await store.load(), {
      projects: [],
      workloads: [],
      revisions: [],
      secrets: [],
      tokens: [token("t2", null)],
    });
    assert.equal(mirror.project("p"), null);
    assert.deepEqual([...mirror.workloads()], []);
    assert.equal(mirror.tokenByHash("hash-t1"), null);
    assert.equal(mirror.tokenByHash("hash-t2")?.id, "t2");
    assert.equal(mirror.secret("p", "S"), null);
  });

  it("forgets a token and a secret at once", async () => {
    const { store, mirror } = under();
    await store.apply(
      change({ kind: "put_token", token: token("t", "p") }, { kind: "put_secret", secret: secret("p", "S", 1) }),
    );
    await store.apply(change({ kind: "put_secret", secret: secret("p", "S", 2) }));
    assert.equal(mirror.secret("p", "S")?.version, 2);
    await store.apply(change({ kind: "remove_token", id: "t" }, { kind: "remove_secret", project: "p", name: "S" }));
    assert.equal(mirror.tokenByHash("hash-t"), null);
    assert.deepEqual([...mirror.secrets("p")], []);
    assert.deepEqual((await store.load()).tokens, []);
  });

  it("keeps apart what names with quotes and accents hold", async () => {
    const { store } = under();
    const odd = { ...secret("p", "S"), sealed: "a'b\"c\\\u0000é🙂" };
    await store.apply(change({ kind: "put_secret", secret: odd }));
    assert.deepEqual((await store.load()).secrets, [odd]);
  });
}

function following(it: It, under: () => StoreUnderTest): void {
  const put = (body: Run): Mutation => ({ kind: "put_run", run: body });
  const jobs = [...deploy("p", "job"), ...deploy("p", "other")];

  it("takes no run of a job that was removed meanwhile, nor anything that came with it", async () => {
    const { store } = under();
    await store.apply(change(...jobs));
    await store.apply(change({ kind: "remove_workload", key: { project: "p", workload: "job" } }));
    const with_ = { kind: "put_secret", secret: secret("p", "S") } as const;
    await assert.rejects(store.apply(change(with_, put(run("a")))), failsWith("not_found"));
    assert.deepEqual([await store.openRuns(), (await store.load()).secrets], [[], []]);
  });

  it("keeps a run with the command that asks for it, and where it is now", async () => {
    const { store } = under();
    await store.apply(change(...jobs, put(run("a")), put(run("b")), put(run("c", "other"))));
    const ids = async (query: Partial<RunQuery> = {}): Promise<string[]> =>
      (await store.runs({ project: "p", limit: 10, ...query })).map(({ id }) => id);
    assert.deepEqual(await ids(), ["c", "b", "a"]);
    assert.deepEqual(await ids({ workload: "job", limit: 1 }), ["b"]);
    assert.deepEqual(await ids({ id: "a" }), ["a"]);
    assert.deepEqual(await ids({ project: "q" }), []);
    assert.deepEqual((await store.openRuns()).map(({ id }) => id), ["a", "b", "c"]); // prettier-ignore
    await store.updateRuns([{ ...run("a"), state: "succeeded" }, run("unknown")]);
    assert.deepEqual((await store.openRuns()).map(({ id }) => id), ["b", "c"]); // prettier-ignore
    assert.deepEqual((await store.runs({ project: "p", id: "a", limit: 1 }))[0], { ...run("a"), state: "succeeded" });
    assert.deepEqual(await ids({ id: "unknown" }), []);
  });

  it("ends a list of runs where it holds too many bytes, and answers one in any case", async () => {
    const { store } = under();
    const large = (id: string): Run => ({ ...run(id), message: "x".repeat(jobLimits.queryBytes / 2) });
    await store.apply(change(...jobs, ...["a", "b", "c"].map((id) => put(large(id)))));
    assert.deepEqual((await store.runs({ project: "p", limit: 10 })).map(({ id }) => id), ["c", "b"]); // prettier-ignore
    const huge = { ...run("d"), message: "x".repeat(jobLimits.queryBytes + 1) };
    await store.apply(change(put(huge)));
    assert.deepEqual((await store.runs({ project: "p", limit: 10 })).map(({ id }) => id), ["d"]); // prettier-ignore
  });

  it("names the code of runs that have not ended, though its revision is gone", async () => {
    const { store } = under();
    await store.apply(change(...jobs, put(run("a"))));
    assert.equal((await store.contentDigests()).has("code-job"), true);
    await store.updateRuns([{ ...run("a"), state: "failed" }]);
    assert.equal((await store.contentDigests()).has("code-job"), false);
  });

  it("keeps the newest of those that have ended, and all others", async () => {
    const { store } = under();
    const name = (n: number): string => `r${String(n).padStart(6, "0")}`;
    const many = Array.from({ length: jobLimits.endedRunsKept + 3 }, (_, n) => run(name(n)));
    const ended = many.slice(1).map(({ id }): Run => Object.assign(run(id), { state: "succeeded" }));
    await store.apply(change(...jobs, ...many.map(put)));
    await store.updateRuns(ended);
    await store.apply(change(put(run("s"))));
    const left = (await store.runs({ project: "p", limit: 5_000 })).map(({ id }) => id);
    assert.deepEqual(
      [left.length, left[0], left.at(-1), left.at(-2)],
      [jobLimits.endedRunsKept + 2, "s", name(0), name(3)],
    );
  });

  it("forgets the runs of a job or a project that is removed, and no late word brings one back", async () => {
    const { store } = under();
    await store.apply(change(...jobs, put(run("a")), put(run("b", "other"))));
    await store.apply(change({ kind: "remove_workload", key: { project: "p", workload: "job" } }));
    await store.updateRuns([{ ...run("a"), state: "stopped" }]);
    assert.deepEqual((await store.runs({ project: "p", limit: 10 })).map(({ id }) => id), ["b"]); // prettier-ignore
    await store.apply(change({ kind: "remove_project", project: "p" }));
    assert.deepEqual(await store.openRuns(), []);
  });
}

function auditing(it: It, under: () => StoreUnderTest): void {
  it("answers audits newest first, by project and time, also those without a change", async () => {
    const { store } = under();
    await store.audit(audit("one", "p", 10));
    await store.audit(audit("two", null, 20));
    await store.apply({ mutations: [], audit: audit("three", "p", 30) });
    const commands = async (of: string | null, sinceMs: number, limit = 10): Promise<string[]> =>
      (await store.audits({ project: of, sinceMs, limit })).map((entry) => entry.command);
    assert.deepEqual(await commands(null, 0), ["three", "two", "one"]);
    assert.deepEqual(await commands("p", 0), ["three", "one"]);
    assert.deepEqual(await commands(null, 20), ["three", "two"]);
    assert.deepEqual(await commands(null, 0, 1), ["three"]);
  });
}

function ledger(it: It, under: () => StoreUnderTest): void {
  const commit = (records: InvocationRecord[], totals: UsageTotal[] = [], offsetBytes = 1): Promise<void> =>
    under().ledger.commit({
      blocks: packRecords(records),
      totals,
      damagedBytes: 0,
      position: {
        segment: 1,
        offsetBytes,
      },
      state: `state-${offsetBytes}`,
    });

  it("answers records as they were given, newest first", async () => {
    const refused = record("c", { revision: null, instance: null, status: null, outcome: "refused", timeMs: 3 });
    const records = [record("a", { timeMs: 1, cold: true, cpuNs: 77 }), record("b", { timeMs: 2 }), refused];
    await commit([...records, record("d", { project: "other", timeMs: 4 })]);
    const { store } = under();
    assert.deepEqual(await store.invocations({ project: "default", limit: 10 }), records.toReversed());
    const only = async (query: object): Promise<string[]> =>
      (await store.invocations({ project: "default", limit: 10, ...query })).map((one) => one.id);
    assert.deepEqual(await only({ id: "a" }), ["a"]);
    assert.deepEqual(await only({ sinceMs: 2 }), ["c", "b"]);
    assert.deepEqual(await only({ limit: 1 }), ["c"]);
    assert.deepEqual(await only({ workload: "none" }), []);
    assert.deepEqual(await only({ workload: "hello", limit: 2 }), ["c", "b"]);
  });

  it("adds up totals by hour, project and workload", async () => {
    await commit([], [total(3_600_000), total(7_200_000, { project: "other" })], 1);
    await commit([], [total(3_600_000, { requests: 4, errors: 2, billedUs: 9 })], 2);
    const { store } = under();
    const all = await store.usage({ project: null, sinceMs: 0, untilMs: 10_000_000 });
    assert.deepEqual(
      all.map((one) => [one.project, one.hourMs, one.requests, one.errors, one.billedUs]),
      [
        ["default", 3_600_000, 5, 2, 1_009],
        ["other", 7_200_000, 1, 0, 1_000],
      ],
    );
    assert.equal((await store.usage({ project: "other", sinceMs: 0, untilMs: 7_200_000 })).length, 0);
    const hours = async (query: Partial<UsageQuery>): Promise<number[]> =>
      (await store.usage({ project: null, sinceMs: 0, untilMs: 10_000_000, ...query })).map((one) => one.hourMs);
    assert.deepEqual(await hours({ withErrors: true }), [3_600_000]);
    assert.deepEqual(await hours({ workload: "hello" }), [3_600_000, 7_200_000]);
    assert.deepEqual(await hours({ workload: "another" }), []);
    assert.deepEqual(await hours({ untilMs: 3_600_000 }), []);
  });

  it("answers totals so many at a time, and what comes behind the last of them", async () => {
    const { store } = under();
    const of = (hour: number, project: string, n: number): UsageTotal =>
      total(hour * 3_600_000, { project, workload: `w${String(n).padStart(4, "0")}`, errors: n % 2 });
    const numbers = Array.from({ length: storeLimits.usageRows }, (_, n) => n);
    const all = [...numbers.map((n) => of(1, "default", n)), of(1, "other", 1), of(2, "other", 1)];
    await commit([], all, 1);
    const listed = async (query: Partial<UsageQuery>): Promise<readonly UsageTotal[]> => {
      const found: UsageTotal[] = [];
      for (let page: readonly UsageTotal[]; ;) {
        const after = found.at(-1);
        const span = { project: null, sinceMs: 0, untilMs: 10_000_000, ...(after ? { after } : {}) };
        found.push(...(page = await store.usage({ ...span, ...query })));
        assert.ok(page.length <= storeLimits.usageRows);
        if (page.length < storeLimits.usageRows) return found;
      }
    };
    assert.deepEqual(await listed({}), all);
    assert.deepEqual(
      await listed({ withErrors: true }),
      all.filter((one) => one.errors > 0),
    );
    assert.deepEqual(
      await listed({ project: "default" }),
      all.filter((one) => one.project === "default"),
    );
    assert.deepEqual(await listed({ project: "other" }), [of(1, "other", 1), of(2, "other", 1)]);
    assert.deepEqual(
      await listed({ workload: "w0001" }),
      all.filter((one) => one.workload === "w0001"),
    );
    assert.deepEqual(await listed({ sinceMs: 7_200_000, project: "other" }), [of(2, "other", 1)]);
  });

  it("remembers how far the journal is loaded, with the state there", async () => {
    const { ledger } = under();
    assert.equal(await ledger.journal(), null);
    await commit([], [], 5);
    await commit([], [], 9);
    assert.deepEqual(await ledger.journal(), { position: { segment: 1, offsetBytes: 9 }, state: "state-9" });
  });
}

function retention(it: It, under: () => StoreUnderTest): void {
  it("counts records by project and day, and deletes the oldest of one of them", async () => {
    const { ledger, store } = under();
    assert.equal((await store.retention()).oldestRecordMs, null);
    const records = [1, 2, 3].map((n) => record(`a${n}`, { timeMs: day + n }));
    records.push(record("b", { timeMs: 2 * day }), record("c", { project: "other", timeMs: day }));
    const position = { segment: 1, offsetBytes: 1 };
    await ledger.commit({ blocks: packRecords(records), totals: [], position, state: "", damagedBytes: 0 });
    const byName = async (): Promise<unknown[]> =>
      (await ledger.recordDays()).map((one) => `${one.project} ${one.dayMs / day} ${one.records}`).toSorted();
    assert.deepEqual(await byName(), ["default 1 3", "default 2 1", "other 1 1"]);
    assert.equal(await ledger.deleteRecords({ project: "default", dayMs: day, limit: 2 }), 2);
    assert.deepEqual(await byName(), ["default 1 1", "default 2 1", "other 1 1"]);
    assert.equal(await ledger.deleteRecords({ project: "default", dayMs: day, limit: 2 }), 1);
    assert.deepEqual(await byName(), ["default 2 1", "other 1 1"]);
    assert.equal((await store.retention()).oldestRecordMs, day);
    assert.deepEqual(
      (await store.invocations({ project: "default", limit: 9 })).map((one) => one.id),
      ["b"],
    );
  });

  it("deletes totals before an hour, some at a time and the oldest first, and says from when to when they go", async () => {
    const { ledger } = under();
    assert.equal(await ledger.totalHours(), null);
    const position = { segment: 1, offsetBytes: 1 };
    const hours = [3_600_000, 7_200_000, 10_800_000];
    const totals = [...hours.map((hourMs) => total(hourMs)), total(3_600_000, { workload: "another" })];
    await ledger.commit({ blocks: [], totals, position, state: "", damagedBytes: 0 });
    assert.deepEqual(await ledger.totalHours(), { oldestMs: 3_600_000, newestMs: 10_800_000 });
    const deleted = (limit: number): Promise<number> => ledger.deleteTotals({ hourMs: 10_800_000, limit });
    assert.equal(await deleted(2), 2);
    assert.deepEqual(await ledger.totalHours(), { oldestMs: 7_200_000, newestMs: 10_800_000 });
    assert.deepEqual([await deleted(2), await deleted(2)], [1, 0]);
    assert.deepEqual(await ledger.totalHours(), { oldestMs: 10_800_000, newestMs: 10_800_000 });
  });

  it("remembers when retention last ran", async () => {
    const { ledger } = under();
    assert.equal(await ledger.lastRetention(), null);
    await ledger.retained(42);
    assert.equal(await ledger.lastRetention(), 42);
    assert.equal(await ledger.journal(), null, "nothing is loaded by that");
  });
}
