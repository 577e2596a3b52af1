// Network namespaces made, pinned and set up from within, by system calls: a link took four processes and 12 ms of them.

import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { NetworkChange, NetworkThing } from "./door.ts";
import { encode } from "./netlink.ts";
import type { Netlink, Syscalls } from "./syscalls.ts";

const switches = "/proc/sys/net";
/** Of this thread, which alone changes its namespace. */
const ownNamespace = "/proc/thread-self/ns/net";
/** Where this thread is: a line a device, with what it has received and sent, and what of that was lost. */
const counters = "/proc/thread-self/net/dev";

/** One after the other, with the rest of this process's work between them: each takes some milliseconds of this thread. */
export async function changeNetworks(changes: readonly NetworkChange[], system: Syscalls): Promise<void> {
  for (const [i, change] of changes.entries()) {
    if (i > 0) await nextTurn();
    changeNetwork(change, system);
  }
}

/** A namespace without processes dies with its pin. */
export function unpin(paths: readonly string[], system: Syscalls): void {
  for (const path of paths) {
    system.unmount(path);
    rmSync(path, { force: true });
  }
}

/** By the counters of all devices: whoever asked made the namespace, and nobody in it can change one. */
export function isUntouched(path: string, system: Syscalls): boolean {
  const home = openSync(ownNamespace, "r");
  try {
    withDescriptor(path, (fd) => system.joinNetwork(fd));
    const [, , ...devices] = readFileSync(counters, "latin1").trimEnd().split("\n");
    return devices.length > 0 && devices.every((line) => /^ *[^ :]+:( +0)+ *$/.test(line));
  } finally {
    goHome(home, system);
  }
}

/** What it makes half stays: whoever asked unpins it. */
function changeNetwork({ namespace, fresh, things }: NetworkChange, system: Syscalls): void {
  const home = openSync(ownNamespace, "r");
  try {
    if (namespace !== null && fresh) {
      writeFileSync(namespace, "", { flag: "wx", mode: 0o600 });
      system.newNetwork();
      system.pinNetwork(namespace);
    } else if (namespace !== null) withDescriptor(namespace, (fd) => system.joinNetwork(fd));
    const netlink = system.netlink();
    try {
      for (const thing of things) set(thing, system, netlink);
    } finally {
      netlink.close();
    }
  } finally {
    goHome(home, system);
  }
}

/** Whatever this process did next it would do in there: it does nothing more. */
function goHome(home: number, system: Syscalls): void {
  try {
    system.joinNetwork(home);
  } catch (error) {
    process.stderr.write(`ebb spawner: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(70);
  }
  closeSync(home);
}

function set(thing: NetworkThing, system: Syscalls, netlink: Netlink): void {
  try {
    if (thing.kind === "switch") turn(thing.name, thing.value);
    else if (thing.kind === "pair")
      withDescriptor(thing.peer.namespace, (fd) => netlink.send(encode(thing, { index: 0, namespace: fd })));
    else netlink.send(encode(thing, { index: system.deviceIndex(thing.device), namespace: 0 }));
  } catch (error) {
    const what = thing.kind === "switch" ? thing.name : thing.device;
    throw new Error(`${thing.kind} ${what}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** A kernel without IPv6 has none of its switches. */
function turn(name: string, value: string): void {
  if (name.startsWith("ipv6/") && !existsSync(join(switches, "ipv6"))) return;
  writeFileSync(join(switches, name), value, { flag: "r+" });
}

function withDescriptor(path: string, act: (fd: number) => void): void {
  const fd = openSync(path, "r");
  try {
    act(fd);
  } finally {
    closeSync(fd);
  }
}
