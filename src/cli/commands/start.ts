// ebb start (npm start): `up`, and on the first start an example that answers.

import { join } from "node:path";
import { createClient } from "#client/client.ts";
import { send } from "../send.ts";
import { installation } from "#config.ts";
import { linesOfClientError } from "../client-error.ts";
import type { CommandContext } from "../context.ts";
import { runDaemon } from "../daemon.ts";
import { sendDeploy } from "../deploy.ts";

export function run({ options, output }: CommandContext): Promise<void> {
  return runDaemon({ options, output }, async ({ url, token, fresh }) => {
    if (!fresh) return;
    try {
      const example = join(installation, "examples", "hello");
      const request = { project: null, name: null, memoryMb: null, env: [], public: true, output };
      const { results } = await sendDeploy(createClient({ url, token, send }), example, request);
      for (const { workload, url: answersAt } of results) {
        output.line(`${workload} answers at ${answersAt}`);
        output.line(`try: curl ${answersAt}`);
      }
    } catch (error) {
      // ebb itself is up: an example that is not must not end it.
      const why = linesOfClientError(error)?.[0] ?? (error instanceof Error ? error.message : String(error));
      output.note(`examples/hello could not be deployed: ${why}`);
    }
  });
}
