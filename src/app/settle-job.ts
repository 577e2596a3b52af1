// A job as written and flagged -> settings with nothing left out, and where each of them comes from. Pure.

import { EbbError } from "#model/errors.ts";
import { jobDefaults } from "#model/limits.ts";
import type { Isolation, JobSettings, SettingSource, SourcesOf } from "#model/workload.ts";
import type { JobDeclaration } from "./door.ts";
import { checkMemory, mergedEnv, type SettingFlags } from "./settings.ts";

export interface SettleJobOptions {
  readonly declaration: JobDeclaration;
  readonly flags: SettingFlags;
  readonly isolation: Isolation;
}

/** EbbError bad_request where a flag is out of bounds, invalid_app where what is right alone is wrong together. */
export function settleJob({ declaration, flags, isolation }: SettleJobOptions): {
  readonly settings: JobSettings;
  readonly sources: SourcesOf<JobSettings>;
} {
  const sources: Partial<Record<keyof JobSettings, SettingSource>> = {};
  function or<Key extends keyof JobDeclaration & keyof JobSettings>(
    key: Key,
    fallback: JobSettings[Key],
  ): JobSettings[Key] {
    const declared = declaration[key] as JobSettings[Key] | undefined;
    sources[key] = declared === undefined ? "default" : "app file";
    return declared ?? fallback;
  }
  if (flags.memoryMb !== null) checkMemory(flags.memoryMb);
  const memoryMb = or("memoryMb", jobDefaults.memoryMb);
  if (flags.memoryMb !== null) sources.memoryMb = "flag";
  const settings: JobSettings = {
    runtime: or("runtime", "node26"),
    command: or("command", []),
    args: or("args", []),
    memoryMb: flags.memoryMb ?? memoryMb,
    cpu: or("cpu", jobDefaults.cpu),
    cpuStrict: or("cpuStrict", false),
    timeoutSeconds: or("timeoutSeconds", jobDefaults.timeoutSeconds),
    retries: or("retries", jobDefaults.retries),
    parallelism: or("parallelism", jobDefaults.parallelism),
    rerunOnInterrupt: or("rerunOnInterrupt", true),
    env: mergedEnv(declaration, flags, sources),
    secrets: or("secrets", []),
    egress: or("egress", "internet"),
    isolation: or("isolation", isolation),
  };
  for (const name of settings.secrets)
    if (Object.hasOwn(settings.env, name))
      throw new EbbError("invalid_app", `${declaration.name}: ${name} is both in env and in secrets`);
  return { settings, sources };
}
