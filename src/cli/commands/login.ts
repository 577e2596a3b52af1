// ebb login URL

import { createClient } from "#client/client.ts";
import { send } from "../send.ts";
import type { CommandContext } from "../context.ts";
import { readContexts, writeContexts } from "../contexts.ts";
import { UsageError } from "../failure.ts";
import { sanitized } from "../output.ts";
import { secretValue } from "../prompt.ts";

export async function run({
  arguments: [said = ""],
  options,
  output,
  streams,
  environment,
}: CommandContext): Promise<void> {
  const url = URL.canParse(said) ? new URL(said) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "")
    throw new UsageError(`ebb login: expected a URL such as https://fn.example.com, found "${said}"`);
  const name = options.text("name") ?? url.host;
  const token = environment.token ?? (await secretValue(`token for ${url.origin}: `, streams)).trim();
  // Kept only when it works.
  const identity = await createClient({ url: url.origin, token, send }).identity();
  const { saved } = readContexts(environment.contextDirectory);
  writeContexts(environment.contextDirectory, {
    current: name,
    saved: { ...saved, [name]: { url: url.origin, token } },
  });
  if (output.json) return output.value({ name, url: url.origin, identity });
  output.line(
    sanitized(`${name}: logged in as "${identity.name}" (${identity.scope}, ${identity.project ?? "every project"})`),
  );
}
