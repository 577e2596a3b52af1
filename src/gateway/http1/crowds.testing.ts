// Many clients that stay connected, and some that never finish a head: what they cost, and that they go.

import assert from "node:assert/strict";
import { execFileSync, fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import test, { type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { httpLimits } from "#model/limits.ts";
import { parserError } from "../problem.ts";
import type { Order, Report } from "./crowd.testing.ts";
import { Http1Server } from "./server.ts";

/** Generous: of the process's memory, for a connection that waits, whatever it has carried before. */
const connectionKiB = 32;
const slowMeasured = 1_000;
/** Beside the connections themselves. */
const filesBeside = 500;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** KiB of the process, when it has collected what it can. */
async function memoryKiB(): Promise<number> {
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  return process.memoryUsage.rss() / 1_024;
}

class Crowd {
  readonly #child: ChildProcess;

  constructor(context: TestContext, port: number, count: number) {
    const program = fileURLToPath(new URL("crowd.testing.ts", import.meta.url));
    this.#child = fork(program, [String(port), String(count)], { stdio: "inherit" });
    context.after(() => void this.#child.kill("SIGKILL"));
  }

  async heard(report: Report): Promise<void> {
    assert.deepEqual((await once(this.#child, "message"))[0], report);
  }

  async all(order: Order): Promise<void> {
    this.#child.send(order);
    await this.heard("done");
  }
}

/** Of few slow ones the memory is not measured: what the process itself takes meanwhile is as much. */
export function crowdTest(idle: number, slow: number): void {
  // Node has raised its soft limit to the hard one, and what it starts inherits that.
  const files = execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }).trim();
  const skip =
    files !== "unlimited" && Number(files) < idle + slow + filesBeside
      ? `${idle + slow + filesBeside} files must be open at a time, and ulimit -n allows ${files}`
      : false;
  const name = `${idle} idle connections keep nobody waiting, cost little, and are gone in time; so are ${slow} slow ones`;
  test(name, { skip }, async (context) => {
    const clock = new VirtualClock();
    let asked = 0;
    const server = new Http1Server(
      {
        closing: false,
        request(exchange) {
          asked++;
          exchange.send(200, [], Buffer.from("answered"), false);
          return false;
        },
        upgrade() {},
        multiplexed() {},
        unreadable(code, _exchange, connection) {
          connection.lastWords((last) => last.send(parserError(code).status, [], new Uint8Array(0), true));
        },
      },
      { clock, partyOf: () => "all", connections: { inAll: idle + slow + 1, each: idle } },
    );
    const port = await server.listen("127.0.0.1", 0);
    context.after(async () => {
      const closed = server.close();
      server.destroyAll();
      await closed;
    });
    const get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const answer = async (): Promise<void> => {
      const socket = connect(port, "127.0.0.1").on("error", () => undefined);
      socket.write(get);
      const [bytes] = (await once(socket, "data")) as [Buffer];
      assert.match(bytes.toString(), /^HTTP\/1\.1 200 [^]*answered$/);
      socket.destroy();
    };
    await answer();
    const emptyKiB = await memoryKiB();

    const keeping = new Crowd(context, port, idle);
    await keeping.heard("done");
    await keeping.all({ text: get, answered: true });
    assert.equal(asked, idle + 1);
    const idleKiB = ((await memoryKiB()) - emptyKiB) / idle;
    context.diagnostic(`an idle connection: ${idleKiB.toFixed(1)} KiB`);
    assert.ok(idleKiB < connectionKiB, `${idleKiB} KiB for an idle connection`);
    await answer();

    const withIdleKiB = await memoryKiB();
    const slowly = new Crowd(context, port, slow);
    await slowly.heard("done");
    const seconds = 10;
    for (const byte of get.slice(0, seconds)) {
      await slowly.all({ text: byte, answered: false });
      await clock.advance(1_000);
    }
    assert.equal(asked, idle + 2, "no request began");
    const slowKiB = ((await memoryKiB()) - withIdleKiB) / slow;
    context.diagnostic(`a connection whose head comes slowly: ${slowKiB.toFixed(1)} KiB`);
    if (slow >= slowMeasured) assert.ok(slowKiB < connectionKiB, `${slowKiB} KiB for a slow connection`);
    await answer();

    const slowAreGone = slowly.heard("left");
    const sweepMs = 5_000;
    await clock.advance(httpLimits.headersTimeoutMs - seconds * 1_000 + sweepMs);
    await slowAreGone;
    await answer();
    const idleAreGone = keeping.heard("left");
    await clock.advance(httpLimits.keepAliveTimeoutMs - httpLimits.headersTimeoutMs + sweepMs);
    await idleAreGone;
    // The timer of a server that has connections is its only one.
    await clock.advance(2 * sweepMs);
    assert.equal(clock.pending(), 0);
  });
}
