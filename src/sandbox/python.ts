// The machine's own Python, which the runtime python3 is.

import { access, constants } from "node:fs/promises";
import { EbbError } from "#model/errors.ts";

export const python = "/usr/bin/python3";

export async function requirePython(): Promise<string> {
  try {
    await access(python, constants.X_OK);
    return python;
  } catch {
    throw new EbbError(
      "start_failed",
      `The runtime python3 cannot be had: there is no ${python} on this machine. Install it (sudo apt-get install -y python3).`,
    );
  }
}
