// What an upload declares: its ebb.yaml, or the one function that a plain folder is.

import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import { join } from "node:path";
import type { AppProblem, ContainerDeclaration, FunctionDeclaration, JobDeclaration } from "#app/door.ts";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { AppTools } from "../app-tools.ts";

const appFile = "ebb.yaml";

export interface Declared {
  /** True: there is an ebb.yaml; false: a plain folder. */
  readonly app: boolean;
  readonly project: string | null;
  readonly functions: readonly FunctionDeclaration[];
  readonly containers: readonly ContainerDeclaration[];
  readonly jobs: readonly JobDeclaration[];
}

/** `name`: what a plain folder's function is called. EbbError invalid_app with every problem in `extra.problems`. */
export async function readUpload(
  folder: string,
  name: string | null,
  tools: Pick<AppTools, "readApp">,
): Promise<Declared> {
  const text = await readAppFile(join(folder, appFile));
  if (text === null) {
    if (await lstat(join(folder, "ebb.yml")).catch(() => null))
      throw new EbbError("invalid_app", "ebb.yml is not read; call it ebb.yaml");
    if (name === null)
      throw new EbbError("bad_request", `there is no ${appFile} in what was sent, and no name for its one function`);
    return { app: false, project: null, functions: [{ name, source: "." }], containers: [], jobs: [] };
  }
  const reading = tools.readApp(text, appFile);
  if (!reading.ok) throw invalidApp(reading.problems);
  const { app } = reading;
  const { project, functions, containers = [], jobs = [] } = app;
  const count = functions.length + containers.length + jobs.length;
  if (count === 0) throw new EbbError("invalid_app", `${appFile} declares no function and no container`);
  if (count > deployLimits.functionsPerApp)
    throw new EbbError("invalid_app", `${appFile} declares more than ${deployLimits.functionsPerApp} workloads`);
  return { app: true, project, functions, containers, jobs };
}

function invalidApp(problems: readonly AppProblem[]): EbbError {
  const lines = problems.map(({ file, line, path, message }) => `${file}:${line}: ${path}: ${message}`);
  const more = lines.length > 1 ? ` (and ${lines.length - 1} more)` : "";
  return new EbbError("invalid_app", `${lines[0] ?? `${appFile} is wrong`}${more}`, {
    extra: { problems: problems.slice(0, 100) },
  });
}

/** Null: there is none. Links are not followed: what is read must be what was sent. */
async function readAppFile(path: string): Promise<string | null> {
  let file;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    if (errnoOf(error) === "ELOOP") throw new EbbError("invalid_app", `${appFile} is a link; send the file itself`);
    throw error;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new EbbError("invalid_app", `${appFile} is not a regular file`);
    if (stat.size > deployLimits.appFileBytes)
      throw new EbbError("invalid_app", `${appFile} has more than ${deployLimits.appFileBytes} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(await file.readFile());
  } catch (error) {
    if (errnoOf(error) === "ERR_ENCODING_INVALID_ENCODED_DATA")
      throw new EbbError("invalid_app", `${appFile} is not UTF-8`);
    throw error;
  } finally {
    await file.close();
  }
}
