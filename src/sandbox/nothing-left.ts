// The part of a driver whose sandboxes all end with ebb: it leaves none to be adopted.

import { EbbError } from "#model/errors.ts";
import type { SandboxDriver } from "./door.ts";

export const nothingLeft: Pick<SandboxDriver, "left" | "adopt" | "forget" | "keep"> = {
  left: () => [],
  adopt: (instance) => Promise.reject(new EbbError("internal", `${instance} was not left`)),
  forget: () => Promise.resolve(),
  keep: () => Promise.resolve(),
};
