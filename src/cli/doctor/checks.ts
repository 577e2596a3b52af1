// The checks of `ebb doctor`, in the order in which they are shown.

import { readdirSync } from "node:fs";
import { totalmem } from "node:os";
import type { Check, Finding } from "./check.ts";
import { contentOf, find, olderThan, outputOf, versionIn } from "./probe.ts";

const apt = (pack: string): string => `sudo apt-get install -y ${pack}`;
const hybridMount = "/sys/fs/cgroup/unified";

async function program(
  what: string,
  name: string,
  argv: readonly string[],
  least: string | null,
  pack: string,
): Promise<Finding> {
  const path = await find(name);
  if (path === null) return { what, verdict: "missing", found: "-", remedy: apt(pack) };
  const version = versionIn(await outputOf(path, ...argv));
  if (version === null) return { what, verdict: "broken", found: path, remedy: apt(pack) };
  const old = least !== null && olderThan(version, least);
  return { what, verdict: old ? "too old" : "there", found: version, remedy: old ? apt(pack) : null };
}

const node: Check = async () => {
  const version = process.versions.node;
  const old = olderThan(version, "26.0.0");
  return [{ what: "node 26", verdict: old ? "too old" : "there", found: version, remedy: old ? "npm install" : null }];
};

const root: Check = async () => {
  const is = process.getuid?.() === 0;
  const remedy = is ? null : "sudo ./ebb up (or, for development only: ./ebb up --isolation none)";
  return [{ what: "root", verdict: is ? "there" : "missing", found: is ? "yes" : "no", remedy }];
};

/** Controllers that stayed with the v2 mount of a hybrid machine; crun 1.8 refuses to run while there is one. */
function hybridControllers(): string {
  return contentOf(`${hybridMount}/cgroup.controllers`) ?? "";
}

const engines: Check = async () => {
  const crun = await program("crun", "crun", ["--version"], "1.8", "crun");
  const runc = await program("runc", "runc", ["--version"], "1.1", "runc");
  const left = hybridControllers();
  const crunWorks = crun.verdict === "there" && left === "";
  const findings: Finding[] = [
    crun.verdict === "there" && left !== ""
      ? {
          ...crun,
          verdict: runc.verdict === "there" ? "note" : "broken",
          remedy: `crun refuses hybrid cgroups while the v2 mount has a controller (${left}); runc serves here. For crun: sudo mount -t cgroup -o ${left.split(" ")[0]} cgroup /sys/fs/cgroup/${left.split(" ")[0]}`,
        }
      : crun,
    // One engine is enough.
    crunWorks && runc.verdict === "missing" ? { ...runc, verdict: "note", remedy: null } : runc,
  ];
  return crun.verdict === "missing" && runc.verdict === "there"
    ? findings.map((one) =>
        one.what === "crun"
          ? { ...one, verdict: "note", remedy: `runc serves; crun starts faster: ${apt("crun")}` }
          : one,
      )
    : findings;
};

const cgroups: Check = async () => {
  const pure = contentOf("/sys/fs/cgroup/cgroup.controllers");
  if (pure !== null) {
    const missing = ["cpu", "memory", "pids"].filter((one) => !pure.split(" ").includes(one));
    const bad = missing.length > 0;
    return [
      {
        what: "cgroups",
        verdict: bad ? "missing" : "there",
        found: bad ? `v2 without ${missing.join(", ")}` : "v2",
        remedy: bad ? "enable the controllers on the kernel's command line" : null,
      },
    ];
  }
  const mounted = new Set<string>();
  for (const line of (contentOf("/proc/self/mountinfo") ?? "").split("\n"))
    if (line.includes(" - cgroup ")) for (const option of line.split(" ").at(-1)!.split(",")) mounted.add(option);
  const missing = ["cpu", "memory", "pids"].filter((one) => !mounted.has(one));
  if (missing.length > 0)
    return [
      {
        what: "cgroups",
        verdict: "missing",
        found: `v1 without ${missing.join(", ")}`,
        remedy: "mount the controllers, or boot with systemd.unified_cgroup_hierarchy=1",
      },
    ];
  return [
    {
      what: "cgroups",
      verdict: "there",
      found: contentOf(`${hybridMount}/cgroup.procs`) === null ? "v1" : "v1 (hybrid)",
      remedy: null,
    },
  ];
};

const namespaces: Check = async () => {
  const max = Number(contentOf("/proc/sys/user/max_user_namespaces") ?? "0");
  const kinds = new Set(readdirSync("/proc/self/ns"));
  const missing = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"].filter((one) => !kinds.has(one));
  const bad = max === 0 || missing.length > 0;
  return [
    {
      what: "user namespaces",
      verdict: bad ? "missing" : "there",
      found: missing.length > 0 ? `without ${missing.join(", ")}` : `${max}`,
      remedy: bad ? "sudo sysctl -w user.max_user_namespaces=15000" : null,
    },
  ];
};

const network: Check = async () => {
  const forwarding = contentOf("/proc/sys/net/ipv4/ip_forward") === "1";
  const findings: Finding[] = [
    await program("nft", "nft", ["--version"], "1.0", "nftables"),
    await program("ip", "ip", ["-V"], null, "iproute2"),
    {
      what: "ip forwarding",
      verdict: forwarding ? "there" : "note",
      found: forwarding ? "on" : "off",
      remedy: forwarding ? null : "ebb up turns it on while it runs",
    },
  ];
  const iptables = await find("iptables");
  const rules = iptables === null ? null : await outputOf(iptables, "-S", "FORWARD");
  if (rules !== null && /^-P FORWARD DROP$/m.test(rules))
    findings.push({
      what: "host firewall",
      verdict: "note",
      found: "FORWARD policy DROP (Docker sets it)",
      remedy:
        "sandboxes reach nothing outside until: sudo iptables -I DOCKER-USER -i ebb+ -j ACCEPT && sudo iptables -I DOCKER-USER -o ebb+ -j ACCEPT",
    });
  return findings;
};

const python: Check = async () => {
  // The distribution's, whatever PATH says: that is what functions get.
  const version = versionIn(await outputOf("/usr/bin/python3", "--version"));
  if (version === null)
    return [{ what: "python3", verdict: "note", found: "-", remedy: `only for Python functions: ${apt("python3")}` }];
  const old = olderThan(version, "3.9.0");
  return [{ what: "python3", verdict: old ? "too old" : "there", found: version, remedy: old ? apt("python3") : null }];
};

const memory: Check = async () => {
  const mib = Math.floor(totalmem() / 1024 / 1024);
  const little = mib < 1_024;
  return [
    {
      what: "memory",
      verdict: little ? "note" : "there",
      found: `${mib} MiB`,
      remedy: little ? "512 MiB stay with the machine; little is left for instances" : null,
    },
  ];
};

export const checks: readonly Check[] = [node, root, engines, cgroups, namespaces, network, python, memory];
