// Part of the suite: what every driver that can pause must do, to a program that says hello.

import assert from "node:assert/strict";
import type { Duplex } from "node:stream";
import type { Exit, SandboxDriver } from "./door.ts";

interface Started {
  readonly id: string;
  readonly exits: Exit[];
}

/** Long enough for an answer that nothing holds back; the order of events is what is asserted. */
const longMs = 50;

export function pauseTests(
  it: (behaviour: string, run: () => Promise<void>) => void,
  driverOf: () => SandboxDriver,
  /** One for several, which are to leave it as it was. */
  serving: () => Promise<Started>,
  started: () => Promise<Started>,
): void {
  it("a paused sandbox answers nothing until it is resumed", async () => {
    const driver = driverOf();
    if (!driver.capabilities().pause) return;
    const { id } = await serving();
    await driver.pause(id);
    const asking = new Asking(driver.connect(id));
    const answer = asking.ask();
    await new Promise((resolve) => void setTimeout(resolve, longMs));
    assert.equal(asking.answered, 0);
    await driver.resume(id);
    await answer;
    asking.close();
  });

  it("a connection from before a pause carries the next request after it", async () => {
    const driver = driverOf();
    if (!driver.capabilities().pause) return;
    const { id } = await serving();
    const asking = new Asking(driver.connect(id));
    await asking.ask();
    for (let i = 0; i < 20; i++) {
      // Nobody waits for either before he sends.
      const both = [driver.pause(id), driver.resume(id)];
      await Promise.all([...both, asking.ask()]);
    }
    await driver.pause(id);
    const answer = asking.ask();
    await new Promise((resolve) => void setTimeout(resolve, longMs));
    assert.equal(asking.answered, 21);
    await driver.resume(id);
    await answer;
    asking.close();
  });

  it("a paused sandbox can be stopped, and has its grace", async () => {
    const driver = driverOf();
    const { id, exits } = await started();
    await driver.pause(id);
    await driver.stopSandbox(id, 5_000);
    assert.deepEqual(
      exits.map(({ reason }) => reason),
      ["stopped"],
    );
  });

  it("a paused sandbox can be killed", async () => {
    const driver = driverOf();
    const { id, exits } = await started();
    await driver.pause(id);
    await driver.stopSandbox(id, 0);
    assert.deepEqual(
      exits.map(({ reason }) => reason),
      ["killed"],
    );
  });
}

/** One connection on which one request after the other is sent. */
class Asking {
  answered = 0;
  readonly #connection: Duplex;
  #heard = "";
  #answer = Promise.withResolvers<void>();

  constructor(connection: Duplex) {
    this.#connection = connection;
    connection.on("error", (error) => this.#answer.reject(error));
    connection.on("data", (part: Buffer) => {
      this.#heard += part.toString("latin1");
      if (!this.#heard.includes("hello from the assignment")) return;
      this.answered++;
      this.#answer.resolve();
    });
  }

  ask(): Promise<void> {
    this.#heard = "";
    this.#answer = Promise.withResolvers();
    this.#connection.write("GET / HTTP/1.1\r\nhost: suite\r\n\r\n");
    return this.#answer.promise;
  }

  close(): void {
    this.#connection.destroy();
  }
}
