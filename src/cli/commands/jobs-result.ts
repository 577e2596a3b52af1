// ebb jobs result RUN

import type { CommandContext } from "../context.ts";

export async function run({ arguments: [id = ""], options, output, project, client }: CommandContext): Promise<void> {
  const index = options.number("index") ?? 0;
  const content = await (await client()).runs.result(project, id, index);
  if (!output.json) {
    for await (const chunk of content) await output.bytes(chunk);
    return;
  }
  const bytes = Buffer.concat(await Array.fromAsync(content));
  output.value({ run: id, index, bytes: bytes.length, base64: bytes.toString("base64") });
}
