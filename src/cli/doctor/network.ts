// What stands between sandboxes and the network: seen with the eyes of the network room, which asks the same when ebb starts.

import { readResolvers } from "#config.ts";
import { gatherProblems } from "#network/problems.ts";
import type { Check, Finding } from "./check.ts";
import { contentOf, find, programFinding, runProgram } from "./probe.ts";

export const network: Check = async ({ path, root }) => {
  const findings: Finding[] = [
    await programFinding("nft", { path, argv: ["--version"], least: "0.9.3", pack: "nftables" }),
    await programFinding("ip", { path, argv: ["-V"], least: null, pack: "iproute2" }),
  ];
  const forwarding = contentOf("/proc/sys/net/ipv4/ip_forward") === "1";
  findings.push({
    what: "ip forwarding",
    verdict: forwarding ? "there" : "note",
    found: forwarding ? "on" : "off",
    remedy: forwarding ? null : "nothing to do: ebb switches it on for its own links",
  });
  if (!root) {
    const remedy = "sudo ./ebb doctor";
    return [...findings, { what: "host firewall", verdict: "note", found: "only root can look", remedy }];
  }
  const problems = await gatherProblems({
    resolvers: readResolvers(),
    spawner: {
      exec: async ([name = "", ...argv]) => {
        const ended = await runProgram((await find(name, path)) ?? name, argv);
        return { ...ended, code: ended.code ?? 127 };
      },
    },
  });
  // Said above, with versions.
  const news = problems.filter(({ what }) => !/^The program (nft|ip) is missing/.test(what));
  for (const { what, remedy } of news)
    findings.push({
      what: "network",
      verdict: /^The program|cannot be read/.test(what) ? "broken" : "note",
      found: what,
      remedy,
    });
  if (news.length === 0)
    findings.push({ what: "host firewall", verdict: "there", found: "lets sandboxes through", remedy: null });
  return findings;
};
