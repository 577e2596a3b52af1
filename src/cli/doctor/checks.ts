// The checks of `ebb doctor`, in the order in which they are shown.

import { existsSync, readdirSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { totalmem } from "node:os";
import { dirname } from "node:path";
import { apt, type Check, type Finding } from "./check.ts";
import { cgroupFinding, engineFindings, type CgroupFiles } from "./cgroups.ts";
import { network } from "./network.ts";
import { contentOf, find, olderThan, outputOf, programFinding, runProgram, versionIn } from "./probe.ts";

const node: Check = async () => {
  const version = process.versions.node;
  const old = olderThan(version, "26.0.0");
  return [
    {
      what: "node 26",
      verdict: old ? "too old" : "there",
      found: version,
      remedy: old ? "./ebb brings its own: npm ci --ignore-scripts" : null,
    },
  ];
};

const rights: Check = async ({ root }) => {
  if (!root)
    return [
      {
        what: "root",
        verdict: "missing",
        found: "no",
        remedy: "sudo ./ebb up (or, for development only, nothing isolated: ./ebb up --isolation none)",
      },
    ];
  const findings: Finding[] = [{ what: "root", verdict: "there", found: "yes", remedy: null }];
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(contentOf("/proc/self/status") ?? "")?.[1] ?? "0"}`);
  const held = (bit: number): boolean => ((effective >> BigInt(bit)) & 1n) === 1n;
  const lacking = Object.entries({ CAP_SYS_ADMIN: 21, CAP_NET_ADMIN: 12, CAP_SETUID: 7, CAP_CHOWN: 0 }).filter(
    ([, bit]) => !held(bit),
  );
  if (lacking.length > 0)
    findings.push({
      what: "capabilities",
      verdict: "missing",
      found: `without ${lacking.map(([name]) => name).join(", ")}`,
      remedy: "start ebb outside of this container, or give it these capabilities",
    });
  if (!held(24))
    findings.push({
      what: "oom protection",
      verdict: "note",
      found: "without CAP_SYS_RESOURCE",
      remedy: "ebb cannot lower its oom_score_adj; sandboxes have raised ones, so the kernel still takes them first",
    });
  return findings;
};

function cgroupFiles(): CgroupFiles {
  return {
    pure: contentOf("/sys/fs/cgroup/cgroup.controllers"),
    hybrid: contentOf("/sys/fs/cgroup/unified/cgroup.controllers"),
    mounts: contentOf("/proc/self/mountinfo") ?? "",
  };
}

const engines: Check = async () => {
  // Not by PATH: the daemon takes engines from the system's folders only.
  const crun = await programFinding("crun", { path: "", argv: ["--version"], least: "1.8", pack: "crun" });
  const runc = await programFinding("runc", { path: "", argv: ["--version"], least: "1.1", pack: "runc" });
  return engineFindings(crun, runc, cgroupFiles());
};

const cgroups: Check = async () => [cgroupFinding(cgroupFiles())];

const namespaces: Check = async ({ path, root }) => {
  const what = "user namespaces";
  const kinds = new Set(readdirSync("/proc/self/ns"));
  const missing = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"].filter((one) => !kinds.has(one));
  if (missing.length > 0)
    return [
      {
        what,
        verdict: "missing",
        found: `this kernel has no ${missing.join(", ")} namespace`,
        remedy: "boot a kernel with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and CONFIG_CGROUPS",
      },
    ];
  const max = Number(contentOf("/proc/sys/user/max_user_namespaces") ?? "0");
  const remedy = "sudo sysctl -w user.max_user_namespaces=15000";
  if (max === 0) return [{ what, verdict: "missing", found: "user.max_user_namespaces is 0", remedy }];
  // A user's own are restricted on some distributions (AppArmor); root's are what ebb makes.
  const unshare = root ? await find("unshare", path) : null;
  const tried = unshare === null ? null : await runProgram(unshare, ["--user", "--map-root-user", "true"]);
  if (tried !== null && tried.code !== 0)
    return [
      {
        what,
        verdict: "broken",
        found: `none can be made: ${tried.stderr.trim().split("\n")[0] ?? ""}`,
        remedy:
          "allow them: kernel.unprivileged_userns_clone, the container's seccomp profile or AppArmor forbids it; in a chroot there are none",
      },
    ];
  return [{ what, verdict: "there", found: `${max} at most`, remedy: null }];
};

const python: Check = async () => {
  // The distribution's, whatever PATH says: that is what functions get.
  const version = versionIn(await outputOf("/usr/bin/python3", "--version"));
  if (version === null)
    return [{ what: "python3", verdict: "note", found: "-", remedy: `only for Python functions: ${apt("python3")}` }];
  const old = olderThan(version, "3.9.0");
  return [
    { what: "python3", verdict: old ? "note" : "there", found: version, remedy: old ? "functions need 3.9" : null },
  ];
};

const images: Check = async () => {
  // Not by PATH: the spawner takes them from the system's folders only.
  const skopeo = await programFinding("skopeo", { path: "", argv: ["--version"], least: "1.9", pack: "skopeo" });
  const buildah = await programFinding("buildah", { path: "", argv: ["--version"], least: "1.28", pack: "buildah" });
  const without = (found: Finding, only: string): Finding =>
    found.verdict === "there"
      ? found
      : { ...found, verdict: "note", remedy: `only for ${only}: ${found.remedy ?? ""}` };
  return [without(skopeo, "images of containers"), without(buildah, "Dockerfiles")];
};

const gvisor: Check = async () => {
  // Not by PATH, as the daemon.
  const found = await programFinding("runsc", { path: "", argv: ["--version"], least: null, pack: "runsc" });
  if (found.verdict === "there") return [found];
  return [{ ...found, verdict: "note", remedy: `only for isolation: gvisor: ${found.remedy ?? ""}` }];
};

const libraries: Check = async ({ path }) => {
  const findings: Finding[] = [];
  const ldconfig = await find("ldconfig", path);
  // musl has no ldconfig -p; what Node itself was linked with is there, or this would not run.
  const known = ldconfig === null ? null : await outputOf(ldconfig, "-p");
  if (known !== null) {
    const at = /libatomic\.so\.1 .*=> (\S+)/.exec(known)?.[1] ?? null;
    const remedy = at === null ? apt("libatomic1") : null;
    findings.push({ what: "libatomic", verdict: at === null ? "missing" : "there", found: at ?? "-", remedy });
  }
  for (const { what, at, pack, without } of [
    {
      what: "certificates",
      at: ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"],
      pack: "ca-certificates",
      without: "functions cannot check whom they call",
    },
    {
      what: "time zones",
      at: ["/usr/share/zoneinfo/Europe"],
      pack: "tzdata",
      without: "Python functions know UTC only",
    },
  ]) {
    const found = at.find((one) => existsSync(one));
    findings.push({
      what,
      verdict: found === undefined ? "note" : "there",
      found: found ?? "-",
      remedy: found === undefined ? `${without}: ${apt(pack)}` : null,
    });
  }
  return findings;
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

const disk: Check = async ({ dataDirectory }) => {
  let at = dataDirectory;
  while (!existsSync(at) && at !== dirname(at)) at = dirname(at);
  const { bavail, bsize } = await statfs(at);
  const mib = Math.floor((bavail * bsize) / 1024 / 1024);
  const little = mib < 1_024;
  return [
    {
      what: "disk",
      verdict: little ? "note" : "there",
      found: `${mib} MiB free at ${dataDirectory}`,
      remedy: little ? "runtimes, code and logs need some; another place: ebb up --data DIR" : null,
    },
  ];
};

const foundations: readonly Check[] = [node, rights, engines, cgroups, namespaces];
const surroundings: readonly Check[] = [network, libraries, python, images, gvisor, memory, disk];
export const checks: readonly Check[] = [...foundations, ...surroundings];

const system: Check = async () => [
  {
    what: "system",
    verdict: "note",
    found: process.platform,
    remedy: "sandboxes need Linux; here, for development: ./ebb up --isolation none",
  },
];

/** Where there is no Linux to look at. */
export const anywhereChecks: readonly Check[] = [system, node, memory, disk];
