// A job as written and flagged, and what its image says -> settings with nothing left out, and where each comes from. Pure.

import type { ImageConfig } from "#images/door.ts";
import { EbbError } from "#model/errors.ts";
import { jobDefaults } from "#model/limits.ts";
import type {
  CodeJobSettings,
  ImageJobSettings,
  Isolation,
  JobSettings,
  SettingSource,
  SourcesOf,
} from "#model/workload.ts";
import { imageText } from "./container-settings.ts";
import type { CodeJobDeclaration, ImageJobDeclaration, JobDeclaration } from "./door.ts";
import { checkMemory, declaredOr, mergedEnv, refuseClash, type SettingFlags } from "./settings.ts";

export interface SettleJobOptions<Declaration = CodeJobDeclaration> {
  readonly declaration: Declaration;
  readonly flags: SettingFlags;
  readonly isolation: Isolation;
}

export interface SettleImageJobOptions extends SettleJobOptions<ImageJobDeclaration> {
  readonly config: Pick<ImageConfig, "entrypoint" | "command">;
}

interface Settled<Settings> {
  readonly settings: Settings;
  readonly sources: SourcesOf<Settings>;
}

/** EbbError bad_request where a flag is out of bounds, invalid_app where what is right alone is wrong together. */
export function settleJob(options: SettleJobOptions): Settled<CodeJobSettings> {
  const { command, runtime } = options.declaration;
  const { settings, sources } = settleAny(options);
  return {
    settings: { runtime: runtime ?? "node26", ...settings, command },
    sources: { runtime: runtime === undefined ? "default" : "app file", ...sources, command: "app file" },
  };
}

/** As settleJob; EbbError deploy_refused where nobody says what is to be run. */
export function settleImageJob(options: SettleImageJobOptions): Settled<ImageJobSettings> {
  const { config, declaration } = options;
  const { settings, sources } = settleAny(options);
  const command = declaration.command ?? config.entrypoint;
  // Docker's rule: what is said of the entrypoint puts the image's command aside as well.
  const args = declaration.args ?? (declaration.command === undefined ? config.command : []);
  const [program = ""] = [...command, ...args];
  if (program === "")
    throw new EbbError(
      "deploy_refused",
      `${declaration.name}: the image does not say what is run in it; say it: command: [./report]`,
    );
  return {
    settings: {
      image: imageText(declaration.from),
      ...settings,
      command,
      args,
      // It counts to its memory: more could not be written anyway.
      writableMb: declaration.writableMb ?? settings.memoryMb,
    },
    sources: {
      image: "app file",
      ...sources,
      command: declaration.command === undefined ? "image" : "app file",
      args: declaration.args !== undefined ? "app file" : declaration.command === undefined ? "image" : "default",
      writableMb: declaration.writableMb === undefined ? "default" : "app file",
    },
  };
}

function settleAny({ declaration, flags, isolation }: SettleJobOptions<JobDeclaration>): Settled<JobSettings> {
  const sources: Partial<Record<keyof JobSettings, SettingSource>> = {};
  const or = declaredOr<JobDeclaration, JobSettings>(declaration, sources);
  if (flags.memoryMb !== null) checkMemory(flags.memoryMb);
  const memoryMb = or("memoryMb", jobDefaults.memoryMb);
  if (flags.memoryMb !== null) sources.memoryMb = "flag";
  const settings: JobSettings = {
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
  refuseClash(declaration.name, settings);
  return { settings, sources };
}
