// Where the daemon is and with which token: --data or EBB_DATA, EBB_URL and EBB_TOKEN, the chosen context, the default data directory.

import { join } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import { dataDirectory, type ClientEnvironment } from "#config.ts";
import { isContext, readContexts, type SavedContext } from "./contexts.ts";
import { Failure } from "./failure.ts";
import { readJson } from "./private-file.ts";

export function findDaemon(data: string | null, environment: ClientEnvironment): SavedContext {
  if (data !== null || environment.data !== null) return fromDirectory(dataDirectory(data ?? environment.data), true);
  if (environment.url !== null) {
    if (!URL.canParse(environment.url)) throw new Failure(`EBB_URL: "${environment.url}" is not a URL`);
    if (environment.token === null) throw new Failure("EBB_URL is set, and EBB_TOKEN is not");
    return { url: environment.url, token: environment.token };
  }
  const { current, saved } = readContexts(environment.contextDirectory);
  if (current !== null) return saved[current]!;
  return fromDirectory(dataDirectory(null), false);
}

function fromDirectory(directory: string, named: boolean): SavedContext {
  const path = join(directory, "credentials.json");
  let value: unknown;
  try {
    value = readJson(path);
  } catch (error) {
    if (errnoOf(error) === "EACCES")
      throw new Failure(`${path} is not yours to read; ask its owner for a token, then: ebb login URL`);
    throw new Failure(`${path} is broken; restart ebb, which writes it anew`);
  }
  if (value === null)
    throw new Failure(
      named
        ? `there is no ebb in ${directory}; start one: ebb up --data ${directory}`
        : "ebb is not running here; start it: ebb up (or name another: EBB_DATA=DIR, EBB_URL and EBB_TOKEN, ebb login URL)",
    );
  if (!isContext(value)) throw new Failure(`${path} is broken; restart ebb, which writes it anew`);
  return { url: value.url, token: value.token };
}
