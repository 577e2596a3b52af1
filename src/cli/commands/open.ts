// ebb open NAME

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { CommandContext } from "../context.ts";
import { Failure } from "../failure.ts";

export async function run({ arguments: [name = ""], output, project, client }: CommandContext): Promise<void> {
  const { url } = await (await client()).workloads.show(project, name);
  if (url === null) throw new Failure(`${name} is a job, which has no address; run it: ebb jobs run ${name}`);
  if (output.json) return output.value({ url });
  if (!/^https?:\/\//.test(url)) throw new Failure(`"${url}" is not a web address`);
  output.line(url);
  const program = process.platform === "darwin" ? "open" : "xdg-open";
  const child = spawn(program, [url], { stdio: "ignore", detached: true });
  try {
    await once(child, "spawn");
    child.unref();
  } catch {
    throw new Failure(`there is no ${program} here to open it with; the address is ${url}`);
  }
}
