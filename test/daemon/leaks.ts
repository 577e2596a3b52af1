// What running costs the machine is given back: descriptors, threads, processes, mounts and numbers while ebb runs, all of it when it
// ends. leaks.test.ts and leaks.soak.ts say how often.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { after, before, test } from "node:test";
import { linkLimits } from "#model/limits.ts";
import { eventually, folderOf, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";
import { startLoad } from "./load.ts";
import { livesOf, mountsOf, nothingLeftOf, ownerless, spawnerOf, tracesOf, type Life } from "./traces.ts";

/** `rounds`: of every kind of failure, between the two levels that are compared. */
export function givesBack(coldStarts: number, rounds: number): void {
  /** A slow machine needs more than a second to use up 64 MiB. */
  const timeoutSeconds = (name: string): number => (name === "eats" ? 30 : 1);

  const failing: Record<string, string> = {
    crashes: "export default () => process.exit(3);",
    hangs: "export default () => new Promise(() => {});",
    spins: "export default () => { for (;;); };",
    eats: "export default () => { const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1)); };",
    throws: "export default () => { throw new Error('as it should'); };",
    floods:
      "export default () => { for (let i = 0; i < 5000; i++) console.log('x'.repeat(200)); return new Response('ok'); };",
  };
  const own: Record<string, string> = {
    // What is opened to each of the many is closed with it.
    cold: ", egress: [192.88.98.1:443, 20.0.0.0/24:80]",
    // It spins for a second as well with a part of a CPU.
    spins: ", cpu: 0.2, cpuStrict: true",
  };
  const code = folderOf({
    "ebb.yaml": `functions:\n${["cold", ...Object.keys(failing)]
      .map(
        (name) =>
          `  ${name}: { source: ./${name}, public: true, memoryMb: 64, idleSeconds: 0, timeoutSeconds: ${timeoutSeconds(name)}, max: 4${own[name] ?? ""} }`,
      )
      .join("\n")}\n`,
    "cold/index.mjs": "export default (r) => { console.log(r.url); return new Response('ok'); };",
    ...Object.fromEntries(Object.entries(failing).map(([name, text]) => [`${name}/index.mjs`, text])),
  });
  const broken = folderOf({
    "broken/index.mjs": "export default () => { syntax error",
    "throws/index.mjs": "throw new Error('at load');",
  });
  const temporary = temporaryDirectory();

  let daemon: Daemon;
  let life: Life;
  let unowned: ReadonlySet<string>;

  before(async () => {
    unowned = new Set(ownerless());
    daemon = await startDaemon({ env: { TMPDIR: temporary } });
    const [only] = livesOf(daemon.process.pid ?? 0);
    assert.ok(only);
    life = only;
    const result = await daemon.ebb(["deploy", code]);
    assert.equal(result.code, 0, result.stderr);
  });

  after(async () => {
    await daemon?.stop();
    for (const folder of [daemon?.directory, code, broken, temporary]) if (folder) removeDirectory(folder);
  });

  /** Open descriptors by what they are: numbers of sockets, pipes and files differ, their kinds must not. */
  function descriptorsOf(pid: number): Record<string, number> {
    const kinds: Record<string, number> = {};
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      let target: string;
      try {
        target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        continue;
      }
      const kind = target.replace(/:\[\d+\]$/, "").replace(/\d{10}\.journal.*$/, "journal");
      kinds[kind] = (kinds[kind] ?? 0) + 1;
    }
    return kinds;
  }

  const link = /network\/[0-9a-z]+$/;

  interface Level {
    readonly daemon: Record<string, number>;
    readonly spawner: Record<string, number>;
    readonly threads: number;
    /** Everything of it on the machine, without its names; links that are kept ready count as one. */
    readonly traces: readonly string[];
    /** Elements of the firewall that open something to single sandboxes. */
    readonly opened: number;
  }

  function opened(): number {
    const listed = execFileSync("nft", ["-j", "list", "table", "inet", life.network ?? ""], { encoding: "utf8" });
    const items = (JSON.parse(listed) as { nftables: Array<{ set?: { name: string; elem?: unknown[] } }> }).nftables;
    const sets = items.filter(({ set }) => /^(granted|granted_all|answered)$/.test(set?.name ?? ""));
    assert.equal(sets.length, 3);
    return sets.reduce((sum, { set }) => sum + (set?.elem?.length ?? 0), 0);
  }

  function unnumbered(line: string): string {
    return line
      .replace(/^process \d+/, "process")
      .replace(link, "network/LINK")
      .replace(/(ids|subnets)\/\d+$/, "$1/N");
  }

  function level(): Level {
    const pid = daemon.process.pid ?? 0;
    return {
      daemon: descriptorsOf(pid),
      spawner: descriptorsOf(spawnerOf(life) ?? 0),
      threads: readdirSync(`/proc/${pid}/task`).length,
      traces: [...new Set(tracesOf([life]).map(unnumbered))],
      opened: opened(),
    };
  }

  /** The level once nothing runs and nothing is under way: the same for a second. */
  async function rest(): Promise<Level> {
    let busy = true;
    let before = "";
    let sinceMs = performance.now();
    return eventually(
      "it comes to rest",
      async () => {
        // To look at all of it takes programs: not while something runs, and not while this question itself is open.
        const now = busy ? null : level();
        const { instances } = JSON.parse(
          (await daemon.fetch(null, "/api/v1/status", { headers: { authorization: `Bearer ${daemon.token}` } })).text,
        ) as {
          instances: { running: number; starting: number };
        };
        busy = instances.running + instances.starting > 0;
        const text = JSON.stringify(now);
        if (now === null || text !== before) sinceMs = performance.now();
        before = text;
        return !busy && performance.now() - sinceMs > 1_000 && now;
      },
      60_000,
    );
  }

  async function everything(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      const load = startLoad({ port: daemon.port, workloads: ["cold", ...Object.keys(failing)], once: true });
      const gone = startLoad({ port: daemon.port, workloads: ["cold", "hangs"], once: true, aborts: 1 });
      await Promise.all([load.stop(), gone.stop()]);
      const statuses = Object.fromEntries(load.seen.map((one) => [one.workload, one.status]));
      assert.equal(statuses["cold"], 200, daemon.log());
      for (const name of ["hangs", "spins"]) assert.equal(statuses[name], 504, name);
      for (const name of ["crashes", "eats"])
        assert.ok([502, 503].includes(statuses[name] ?? 0), `${name}: ${statuses[name]}`);
    }
    for (const folder of ["broken", "throws"]) {
      const refused = await daemon.ebb(["deploy", `${broken}/${folder}`]);
      assert.equal(refused.code, 1, refused.stdout);
    }
    for (let i = 0; i < 3; i++) await daemon.ebb(["logs", "cold"]);
  }

  test(
    `${coldStarts} cold starts and every kind of failure leave the running ebb as it was`,
    { timeout: Math.max(170_000, 3_000 * coldStarts) },
    async () => {
      await everything(1);
      const level0 = await rest();
      for (let i = 0; i < coldStarts; i++)
        assert.equal((await daemon.fetch("cold.localhost", `/${i}`)).status, 200, daemon.log());
      await everything(rounds);
      const level1 = await rest();
      assert.deepEqual(level1, level0);
      // The router, the least that is kept for egress, and one without.
      const few = 1 + linkLimits.spareMin + 1;
      await eventually(
        "the demand is forgotten",
        async () => mountsOf([life]).filter((line) => link.test(line)).length <= few,
        4 * linkLimits.demandWindowMs,
      );
    },
  );

  test("and when it has ended nothing is there that was not before", async () => {
    assert.equal(await daemon.stop(), 0, daemon.log());
    await nothingLeftOf([life], 2_500);
    assert.deepEqual(readdirSync(temporary), [], "left in the temporary directory");
    await eventually(
      "nothing is ownerless",
      async () => ownerless().every((thing) => unowned.has(thing)),
      10_000,
    ).catch(() =>
      assert.fail(
        ownerless()
          .filter((thing) => !unowned.has(thing))
          .join("\n"),
      ),
    );
    const hex = daemon.port.toString(16).toUpperCase().padStart(4, "0");
    const listening = readFileSync("/proc/net/tcp", "latin1")
      .split("\n")
      .filter((line) => new RegExp(`:${hex} 00000000:0000 0A`).test(line));
    assert.deepEqual(listening, [], "somebody still listens on its port");
    assert.deepEqual(readdirSync(`${daemon.directory}/uploads`), []);
    assert.doesNotMatch(daemon.log(), /Warning|something in ebb failed/, daemon.log());
  });
}
