// What was written, recognised and flagged -> settings with nothing left out, and where each of them comes from. Pure.

import { EbbError } from "#model/errors.ts";
import { functionBounds, functionDefaults } from "#model/limits.ts";
import { refuseEnvName } from "#model/names.ts";
import type { FunctionSettings, Isolation, RuntimeName, SettingSource, Signature } from "#model/workload.ts";
import type { FunctionDeclaration } from "./door.ts";

/** What the command line says over what the app file says; null: nothing. */
export interface SettingFlags {
  readonly memoryMb: number | null;
  readonly env: Readonly<Record<string, string>>;
  readonly public: boolean | null;
}

export interface SettleOptions {
  readonly declaration: FunctionDeclaration;
  readonly flags: SettingFlags;
  readonly recognised: {
    readonly runtime: RuntimeName;
    readonly entry: string | null;
    /** Part of `handler:` that is an export, once the file has been found; undefined: as declared. */
    readonly handler?: string | null;
    readonly command?: readonly string[] | null;
  };
  /** What a function gets that asks for nothing: container, or process where ebb runs with --isolation none. */
  readonly isolation: Isolation;
}

export type SettingSources = Readonly<Partial<Record<keyof FunctionSettings, SettingSource>>>;

/** What is declared, or else the fallback; where it is from is noted either way. */
export function declaredOr<Declaration, Settings>(
  declaration: Declaration,
  sources: { [Key in keyof Settings]?: SettingSource },
): <Key extends keyof Declaration & keyof Settings>(
  key: Key,
  fallback: Settings[Key],
  from?: SettingSource,
) => Settings[Key] {
  return (key, fallback, from = "default") => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- one name is one type in both, which no type of these two can say
    const declared = declaration[key] as typeof fallback | undefined;
    sources[key] = declared === undefined ? from : "app file";
    return declared ?? fallback;
  };
}

/** EbbError bad_request where a flag is out of bounds, invalid_app where what is right alone is wrong together. */
export function settle(options: SettleOptions): {
  readonly settings: FunctionSettings;
  readonly sources: SettingSources;
} {
  const { declaration, flags, recognised } = options;
  const sources: Partial<Record<keyof FunctionSettings, SettingSource>> = {};
  const or = declaredOr<FunctionDeclaration, FunctionSettings>(declaration, sources);
  function flagged<Key extends "memoryMb" | "public">(
    key: Key,
    flag: FunctionSettings[Key] | null,
    fallback: FunctionSettings[Key],
  ): FunctionSettings[Key] {
    if (flag === null) return or(key, fallback);
    sources[key] = "flag";
    return flag;
  }
  if (flags.memoryMb !== null) checkMemory(flags.memoryMb);
  const memoryMb = flagged("memoryMb", flags.memoryMb, functionDefaults.memoryMb);
  const runtime = declaration.runtime ?? recognised.runtime;
  sources.runtime = declaration.runtime === undefined ? "recognised" : "app file";
  const command = runtime === "custom" ? (declaration.command ?? recognised.command ?? null) : null;
  if (runtime === "custom" && command === null)
    throw new EbbError("invalid_app", `${declaration.name}: runtime custom needs a command, such as [./server]`);
  if (command !== null) sources.command = declaration.command === undefined ? "recognised" : "app file";
  // A handler that was declared is held; what only loading the code can tell has no source until it was loaded.
  if (declaration.handler !== undefined) sources.handler = "app file";
  if (declaration.signature !== undefined) sources.signature = "app file";
  if (recognised.entry !== null) sources.entry = "recognised";
  const settings: FunctionSettings = {
    runtime,
    entry: runtime === "custom" ? null : recognised.entry,
    handler:
      runtime === "custom"
        ? null
        : recognised.handler === undefined
          ? (declaration.handler ?? null)
          : recognised.handler,
    signature: signatureOf(runtime, declaration),
    command,
    memoryMb,
    cpu: or("cpu", defaultCpu(memoryMb)),
    cpuStrict: or("cpuStrict", false),
    timeoutSeconds: or("timeoutSeconds", functionDefaults.timeoutSeconds),
    concurrency: or("concurrency", functionDefaults.concurrency),
    min: or("min", functionDefaults.min),
    max: or("max", functionDefaults.max),
    ...(declaration.scaling === undefined ? {} : { scaling: or("scaling", declaration.scaling) }),
    idleSeconds: or("idleSeconds", functionDefaults.idleSeconds),
    public: flagged("public", flags.public, false),
    env: mergedEnv(declaration, flags, sources),
    secrets: or("secrets", []),
    egress: or("egress", "internet"),
    isolation: or("isolation", options.isolation),
  };
  refuseClash(declaration.name, settings);
  return { settings, sources };
}

/** Of what flags and the app file say together. */
export function refuseClash(name: string, { env, secrets }: Pick<FunctionSettings, "env" | "secrets">): void {
  for (const secret of secrets)
    if (Object.hasOwn(env, secret))
      throw new EbbError("invalid_app", `${name}: ${secret} is both in env and in secrets`);
}

/** vCPU that goes with so much memory; rounded to what a person writes. */
export function defaultCpu(memoryMb: number): number {
  const cpu = Math.round(memoryMb * functionDefaults.cpuPerMb * 10_000) / 10_000;
  return Math.min(functionBounds.cpu.max, Math.max(functionBounds.cpu.min, cpu));
}

/** Until the code has been loaded, web stands for "not known yet": the load check answers what it is. */
function signatureOf(runtime: RuntimeName, declaration: FunctionDeclaration): Signature {
  return runtime === "custom" ? "program" : (declaration.signature ?? "web");
}

export function checkMemory(memoryMb: number): void {
  const { min, max } = functionBounds.memoryMb;
  if (!Number.isInteger(memoryMb) || memoryMb < min || memoryMb > max)
    throw new EbbError("bad_request", `--memory: expected a whole number from ${min} to ${max}, found ${memoryMb}`);
}

export function mergedEnv(
  declaration: Pick<FunctionDeclaration, "name" | "env">,
  flags: SettingFlags,
  sources: { env?: SettingSource },
): Readonly<Record<string, string>> {
  const flagNames = Object.keys(flags.env);
  sources.env = flagNames.length > 0 ? "flag" : declaration.env === undefined ? "default" : "app file";
  for (const name of flagNames) {
    const refusal = refuseEnvName(name);
    if (refusal !== null) throw new EbbError("bad_request", `--env ${JSON.stringify(name.slice(0, 60))}: ${refusal}`);
    if (flags.env[name]!.includes("\0")) throw new EbbError("bad_request", `--env ${name}: a NUL character is in it`);
  }
  const env = { ...declaration.env, ...flags.env };
  const names = Object.keys(env);
  if (names.length > functionBounds.envCount)
    throw new EbbError(
      "invalid_app",
      `${declaration.name}: at most ${functionBounds.envCount} variables, found ${names.length}`,
    );
  let bytes = 0;
  for (const name of names) bytes += Buffer.byteLength(name) + Buffer.byteLength(env[name]!) + 2;
  if (bytes > functionBounds.envBytes)
    throw new EbbError(
      "invalid_app",
      `${declaration.name}: at most ${functionBounds.envBytes} bytes of env, found ${bytes}`,
    );
  return env;
}
