// Daemons that `ebb login` remembered: ~/.config/ebb/contexts.json, mode 0600.

import { join } from "node:path";
import { Failure } from "./failure.ts";
import { readJson, writePrivateJson } from "./private-file.ts";

export interface SavedContext {
  readonly url: string;
  readonly token: string;
}

export interface Contexts {
  readonly current: string | null;
  readonly saved: Readonly<Record<string, SavedContext>>;
}

function fileOf(directory: string): string {
  return join(directory, "contexts.json");
}

export function readContexts(directory: string): Contexts {
  const path = fileOf(directory);
  let value: unknown;
  try {
    value = readJson(path);
  } catch (error) {
    throw new Failure(`${path} cannot be read: ${error instanceof Error ? error.message : "it is broken"}`);
  }
  if (value === null) return { current: null, saved: {} };
  const broken = new Failure(`${path} is broken; remove it and run: ebb login URL`);
  if (typeof value !== "object" || !("saved" in value) || typeof value.saved !== "object" || !value.saved) throw broken;
  const saved: Record<string, SavedContext> = {};
  for (const [name, one] of Object.entries(value.saved)) {
    if (!isContext(one)) throw broken;
    saved[name] = { url: one.url, token: one.token };
  }
  const current = "current" in value && typeof value.current === "string" ? value.current : null;
  return { current: current !== null && Object.hasOwn(saved, current) ? current : null, saved };
}

export function writeContexts(directory: string, contexts: Contexts): void {
  writePrivateJson(fileOf(directory), contexts);
}

/** Also the shape of the daemon's credentials.json. */
export function isContext(value: unknown): value is SavedContext {
  return (
    value !== null &&
    typeof value === "object" &&
    "url" in value &&
    typeof value.url === "string" &&
    URL.canParse(value.url) &&
    "token" in value &&
    typeof value.token === "string"
  );
}
