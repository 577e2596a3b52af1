// What the host's own firewall and settings will break for sandboxes, each with the command that mends it. Pure, and its gathering.

import type { NetworkProblem } from "./door.ts";
import { isForwarding, messageOf, readProc, type Effects } from "./machine.ts";
import { namePrefix } from "./rules.ts";
import { uplinksOf } from "./subnet.ts";

export interface MachineState {
  /** Programs that are not there. */
  readonly missing: readonly string[];
  /** `nft -j list ruleset`; null: it could not be had. */
  readonly ruleset: string | null;
  /** Words of nft where it could not. */
  readonly rulesetError: string | null;
  /** `iptables-legacy -S`, where the kernel has such tables; null: it has none. */
  readonly legacyRules: string | null;
  readonly uplinks: readonly { readonly device: string; readonly forwarding: boolean }[];
  /** A daemon's own device is there: forwarding should be on by now. */
  readonly running: boolean;
  readonly resolvers: readonly string[];
}

interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
}

export function findProblems(state: MachineState): readonly NetworkProblem[] {
  const problems: NetworkProblem[] = state.missing.map((program) => ({
    what: `The program ${program} is missing.`,
    remedy: `Install it: apt-get install ${packages[program] ?? program}`,
  }));
  if (state.rulesetError !== null && !state.missing.includes("nft"))
    problems.push({
      what: `The machine's firewall cannot be read: ${state.rulesetError}`,
      remedy: "Run ebb as root on a kernel with nftables (CONFIG_NF_TABLES).",
    });
  for (const chain of closedChains(state.ruleset)) problems.push(closed(chain));
  problems.push(...legacyProblems(state.legacyRules));
  if (state.uplinks.length === 0)
    problems.push({
      what: "The machine has no default route: functions reach no internet.",
      remedy: "Connect the machine (ip route add default via …); ebb notices by itself.",
    });
  for (const { device, forwarding } of state.running ? state.uplinks : []) {
    if (forwarding) continue;
    problems.push({
      what: `The kernel does not route from ${device}: answers from the internet do not reach functions.`,
      remedy: `sysctl -w net.ipv4.conf.${device}.forwarding=1 (something set it back after ebb had switched it on)`,
    });
  }
  if (state.resolvers.length === 0)
    problems.push({
      what: "/etc/resolv.conf names no resolver: functions resolve no names but ebb.internal.",
      remedy: "Add a line nameserver ADDRESS to /etc/resolv.conf.",
    });
  return problems;
}

const packages: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nft: "nftables",
  unshare: "util-linux",
  nsenter: "util-linux",
};

/**
 * Base chains of others that drop what no rule of theirs accepts, and have no rule that names ebb's devices. That ebb accepts a
 * packet in its own table does not help: every table that hooks the same place must.
 */
function closedChains(ruleset: string | null): readonly BaseChain[] {
  const items = itemsOf(ruleset);
  const found: BaseChain[] = [];
  for (const item of items) {
    const chain = item["chain"];
    if (!isObject(chain) || chain["policy"] !== "drop") continue;
    const { family, table, name, hook } = chain;
    if (hook !== "forward" && hook !== "input") continue;
    if (family !== "ip" && family !== "inet") continue;
    if (typeof table !== "string" || typeof name !== "string" || table.startsWith(namePrefix)) continue;
    const opened = items.some((other) => {
      const rule = other["rule"];
      return isObject(rule) && rule["family"] === family && rule["table"] === table && namesOurDevices(rule["expr"]);
    });
    if (!opened) found.push({ family, table, name, hook });
  }
  return found;
}

/** "ebb*", "ebb1a2b3c4d" or, from iptables, "ebb+" as the name of a device. */
function namesOurDevices(expressions: unknown): boolean {
  return new RegExp(`"${namePrefix}[0-9a-f]*[*+]?"`).test(JSON.stringify(expressions ?? null));
}

function closed(chain: BaseChain): NetworkProblem {
  const where = `${chain.family} ${chain.table} ${chain.name}`;
  const effect =
    chain.hook === "forward"
      ? "functions reach nothing outside, whatever their egress"
      : "functions reach neither ebb's resolver nor http://ebb.internal";
  return {
    what: `The host's firewall drops by default (${where}, hook ${chain.hook}): ${effect}.`,
    remedy: remedyOf(chain),
  };
}

function remedyOf(chain: BaseChain): string {
  // Docker's and ufw's chains are those of iptables: what iptables writes survives their reloads better than a rule of nft
  if (chain.family === "ip" && chain.table === "filter" && /^[A-Z]+$/.test(chain.name))
    return iptablesRemedy("iptables", chain.hook);
  const insert = `nft insert rule ${chain.family} ${chain.table} ${chain.name}`;
  if (chain.hook === "input") return `${insert} iifname '"${namePrefix}*"' accept`;
  return `${insert} iifname '"${namePrefix}*"' accept; ${insert} oifname '"${namePrefix}*"' ct state established,related accept`;
}

function iptablesRemedy(program: string, hook: string): string {
  if (hook === "input") return `${program} -I INPUT -i ${namePrefix}+ -j ACCEPT`;
  return (
    `${program} -I FORWARD -i ${namePrefix}+ -j ACCEPT; ` +
    `${program} -I FORWARD -o ${namePrefix}+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT ` +
    "(with Docker: the chain DOCKER-USER in place of FORWARD)"
  );
}

function legacyProblems(rules: string | null): readonly NetworkProblem[] {
  if (rules === null || rules.includes(` ${namePrefix}+`)) return [];
  const problems: NetworkProblem[] = [];
  for (const [name, hook] of [
    ["FORWARD", "forward"],
    ["INPUT", "input"],
  ] as const) {
    if (!rules.split("\n").includes(`-P ${name} DROP`)) continue;
    const problem = closed({ family: "ip", table: "filter", name, hook });
    problems.push({ what: problem.what, remedy: iptablesRemedy("iptables-legacy", hook) });
  }
  return problems;
}

function itemsOf(ruleset: string | null): readonly Record<string, unknown>[] {
  if (ruleset === null) return [];
  try {
    const parsed: unknown = JSON.parse(ruleset);
    const items = isObject(parsed) ? parsed["nftables"] : null;
    return Array.isArray(items) ? items.filter(isObject) : [];
  } catch {
    return [];
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Looks at the machine; reads only. */
export async function gatherProblems(options: {
  readonly spawner: Pick<Effects, "exec">;
  readonly resolvers: readonly string[];
}): Promise<readonly NetworkProblem[]> {
  const { spawner, resolvers } = options;
  const said = async (argv: readonly string[]): Promise<{ text: string | null; error: string | null }> => {
    try {
      const result = await spawner.exec(argv);
      return result.code === 0
        ? { text: result.stdout, error: null }
        : { text: null, error: result.stderr.trim() || `exit code ${result.code}` };
    } catch (error) {
      return { text: null, error: messageOf(error) };
    }
  };
  const programs = Object.keys(packages);
  const script = 'for program do command -v "$program" >/dev/null || echo "$program"; done';
  const [missing, ruleset, routes, legacy, devices] = await Promise.all([
    said(["/bin/sh", "-c", script, "ebb", ...programs]),
    said(["nft", "-j", "list", "ruleset"]),
    said(["ip", "-4", "route", "show", "table", "all"]),
    readProc("/proc/net/ip_tables_names"),
    readProc("/proc/net/dev"),
  ]);
  const uplinks: { device: string; forwarding: boolean }[] = [];
  for (const device of uplinksOf(routes.text ?? "", namePrefix))
    uplinks.push({ device, forwarding: (await isForwarding(device)) === true });
  const legacyRules = legacy?.includes("filter") ? (await said(["iptables-legacy", "-S"])).text : null;
  return findProblems({
    missing: missing.text?.split("\n").filter(Boolean) ?? [],
    ruleset: ruleset.text,
    rulesetError: ruleset.error,
    legacyRules,
    uplinks,
    running: new RegExp(`^\\s*${namePrefix}[0-9a-f]+:`, "m").test(devices ?? ""),
    resolvers,
  });
}
