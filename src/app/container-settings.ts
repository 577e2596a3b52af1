// What was written, what the image says and what was flagged -> a container's settings, and where each of them comes from. Pure.

import type { ImageConfig } from "#images/door.ts";
import { EbbError } from "#model/errors.ts";
import { containerDefaults } from "#model/limits.ts";
import type { ContainerSettings, Isolation, SettingSource, SourcesOf } from "#model/workload.ts";
import type { ContainerDeclaration, ImageDeclaration } from "./door.ts";
import { checkMemory, declaredOr, mergedEnv, refuseClash, type SettingFlags } from "./settings.ts";

export interface SettleContainerOptions {
  readonly declaration: ContainerDeclaration;
  readonly flags: SettingFlags;
  readonly config: Pick<ImageConfig, "entrypoint" | "command" | "port">;
  readonly isolation: Isolation;
}

export interface SettledContainer {
  readonly settings: ContainerSettings;
  readonly sources: SourcesOf<ContainerSettings>;
}

/** EbbError bad_request where a flag is out of bounds, deploy_refused where nobody says what is to be run. */
export function settleContainer({ declaration, flags, config, isolation }: SettleContainerOptions): SettledContainer {
  const sources: { -readonly [Key in keyof ContainerSettings]?: SettingSource } = {};
  const or = declaredOr<ContainerDeclaration, ContainerSettings>(declaration, sources);
  function flagged<Key extends "memoryMb" | "public">(
    key: Key,
    flag: ContainerSettings[Key] | null,
    fallback: ContainerSettings[Key],
  ): ContainerSettings[Key] {
    if (flag === null) return or(key, fallback);
    sources[key] = "flag";
    return flag;
  }
  if (flags.memoryMb !== null) checkMemory(flags.memoryMb);
  const memoryMb = flagged("memoryMb", flags.memoryMb, containerDefaults.memoryMb);
  const settings: ContainerSettings = {
    image: imageText(declaration.from),
    command: commandOf(declaration, config),
    port: config.port === null ? or("port", containerDefaults.port) : or("port", config.port, "image"),
    protocol: or("protocol", "http1") ?? "http1",
    probe: or("probe", { tcp: true }),
    liveness: or("liveness", null),
    // It counts to its memory: more could not be written anyway.
    writableMb: or("writableMb", memoryMb),
    memoryMb,
    cpu: or("cpu", containerDefaults.cpu),
    cpuStrict: or("cpuStrict", false),
    timeoutSeconds: or("timeoutSeconds", containerDefaults.timeoutSeconds),
    concurrency: or("concurrency", containerDefaults.concurrency),
    min: or("min", containerDefaults.min),
    max: or("max", containerDefaults.max),
    ...(declaration.scaling === undefined ? {} : { scaling: or("scaling", declaration.scaling) }),
    idleSeconds: or("idleSeconds", containerDefaults.idleSeconds),
    public: flagged("public", flags.public, false),
    env: mergedEnv(declaration, flags, sources),
    secrets: or("secrets", []),
    egress: or("egress", "internet"),
    isolation: or("isolation", isolation),
  };
  sources.image = "app file";
  sources.command = declaration.command || declaration.args ? "app file" : "image";
  refuseClash(declaration.name, settings);
  return { settings, sources };
}

/** As it was written. */
export function imageText(from: ImageDeclaration): string {
  return from.kind === "registry" ? from.reference : `./${from.path}`;
}

/** Docker's rule: what is said of the entrypoint puts the image's command aside as well. */
function commandOf(
  { name, command, args }: ContainerDeclaration,
  image: SettleContainerOptions["config"],
): readonly string[] {
  const words = [...(command ?? image.entrypoint), ...(args ?? (command === undefined ? image.command : []))];
  if (words[0] === undefined || words[0] === "")
    throw new EbbError(
      "deploy_refused",
      `${name}: the image does not say what is run in it; say it: command: [./server]`,
    );
  return words;
}
