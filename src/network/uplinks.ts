// The host's way to the internet: answers come back only through devices that the kernel routes from, so it is switched on there,
// and there alone (not for the whole machine), guarded, and switched off again.

import type { Cancel, Clock } from "#model/clock.ts";
import { linkLimits } from "#model/limits.ts";
import { isForwarding, readProc, routeText, runScript, type Effects } from "./machine.ts";
import { namePrefix } from "./rules.ts";
import { startForwarding, stopForwarding } from "./setup.ts";
import { uplinksOf } from "./subnet.ts";

export interface UplinksOptions {
  readonly spawner: Effects;
  readonly clock: Clock;
  /** Name of the daemon's table and device. */
  readonly name: string;
  readonly failed: (error: unknown) => void;
  /** An earlier daemon of this name has switched on what is on. */
  readonly inherited?: boolean;
}

/**
 * A device from which ebb made the kernel route would let the host's neighbours through it to other networks. The rule over the
 * set `guarded` holds that back (new connections that nobody redirected), until somebody else makes the machine a router.
 */
export class Uplinks {
  readonly #options: UplinksOptions;
  readonly #switched = new Set<string>();
  readonly #guarded = new Set<string>();
  #routes: string | null = null;
  #timer: Cancel | null = null;
  #turn: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: UplinksOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    await this.#keep();
    this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.();
    await this.#turn;
    for (const device of this.#switched) {
      await runScript(this.#options.spawner, stopForwarding, this.#undoArgs(device), {
        purpose: `Routing from ${device} cannot be switched off`,
      });
    }
    this.#switched.clear();
  }

  #undoArgs(device: string): readonly string[] {
    return [device, namePrefix, this.#options.name];
  }

  #watch(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.after(linkLimits.uplinkEveryMs, () => {
      this.#turn = this.#keep()
        .catch((error: unknown) => this.#options.failed(error))
        .finally(() => this.#watch());
    });
  }

  /** Two small reads when nothing changed; a laptop that changes networks gets its new device switched on. */
  async #keep(): Promise<void> {
    const [routes, all] = await Promise.all([readProc("/proc/net/route"), isForwarding("all")]);
    if (all) await this.#guard([]);
    if (routes !== null && routes === this.#routes) return;
    this.#routes = routes;
    if (all) return;
    const devices = uplinksOf(await routeText(this.#options.spawner), namePrefix);
    const guarded: string[] = [];
    for (const device of devices) if (await this.#switchOn(device)) guarded.push(device);
    await this.#guard(guarded);
  }

  /** True: the kernel routes from it because of ebb (this daemon, or another one that is here). */
  async #switchOn(device: string): Promise<boolean> {
    const forwarding = await isForwarding(device);
    if (forwarding === null) return false;
    const ours = this.#switched.has(device) || this.#options.inherited === true;
    if (forwarding && !ours && !(await this.#otherDaemonIsHere())) return false;
    if (!this.#switched.has(device)) {
      const argv = ["/bin/sh", "-c", stopForwarding, "ebb", ...this.#undoArgs(device)];
      await this.#options.spawner.owe([{ kind: "command", argv }], "ground");
      this.#switched.add(device);
    }
    if (!forwarding)
      await runScript(this.#options.spawner, startForwarding, [device], {
        purpose: `Routing from ${device} cannot be switched on`,
      });
    return true;
  }

  async #otherDaemonIsHere(): Promise<boolean> {
    const devices = (await readProc("/proc/net/dev")) ?? "";
    return devices
      .split("\n")
      .map((line) => line.split(":")[0]!.trim())
      .some((device) => device.startsWith(namePrefix) && device !== this.#options.name);
  }

  async #guard(devices: readonly string[]): Promise<void> {
    const { spawner, name } = this.#options;
    for (const device of devices) {
      if (this.#guarded.has(device)) continue;
      await spawner.nft(`add element inet ${name} guarded { "${device}" }`);
      this.#guarded.add(device);
    }
    for (const device of this.#guarded) {
      if (devices.includes(device)) continue;
      await spawner.nft(`delete element inet ${name} guarded { "${device}" }`);
      this.#guarded.delete(device);
    }
  }
}
