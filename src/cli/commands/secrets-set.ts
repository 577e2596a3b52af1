// ebb secrets set NAME: the value by prompt, stdin or file; an argument could be read by every process of the machine.

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { errnoOf } from "#lib/errno.ts";
import type { CommandContext } from "../context.ts";
import { readDotenv } from "../dotenv.ts";
import { Failure, UsageError } from "../failure.ts";
import { secretValue } from "../prompt.ts";
import type { Streams } from "../streams.ts";

export async function run({
  arguments: [name],
  options,
  output,
  streams,
  project,
  client,
}: CommandContext): Promise<void> {
  const file = options.text("from-file");
  if (name?.includes("="))
    throw new UsageError("ebb secrets set: the value is never an argument; it is asked for, or read from stdin");
  if ((name === undefined) === (file === null)) throw new UsageError("ebb secrets set needs NAME, or --from-file FILE");
  // Found before the value is asked for: nobody should type a password into nothing.
  const api = await client();
  const pairs =
    file === null
      ? [[name!, await secretValue(`value of ${name}: `, streams)] as const]
      : readDotenv(await contentOf(file, streams), file);
  if (pairs.length === 0) throw new Failure(`${file} has no NAME=VALUE`);
  const results = [];
  for (const [one, value] of pairs) results.push({ name: one, ...(await api.secrets.set(project, one, value)) });
  if (output.json) return output.value(file === null ? results[0] : results);
  for (const { name: one, version, replaced } of results)
    output.line(
      `${one} is set (version ${version})${replaced.length > 0 ? `; fresh instances for ${replaced.join(", ")}` : ""}`,
    );
}

async function contentOf(file: string, streams: Pick<Streams, "stdin">): Promise<string> {
  if (file === "-") return text(streams.stdin);
  return readFile(file, "utf8").catch((error: unknown) => {
    throw new Failure(`${file} cannot be read (${errnoOf(error) ?? "broken"})`);
  });
}
