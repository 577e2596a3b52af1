// The steps of every request, in running order. An upgrade passes the very same ones.

import type { Step } from "../inbound.ts";
import { addForwarded } from "./add-forwarded.ts";
import { allowPreflight } from "./allow-preflight.ts";
import { authenticate } from "./authenticate.ts";
import { findHost } from "./find-host.ts";
import { findRoute } from "./find-route.ts";
import { fitProtocol } from "./fit-protocol.ts";
import { identifyCaller } from "./identify-caller.ts";
import { limitDepth } from "./limit-depth.ts";
import { readHead } from "./read-head.ts";

export const steps: readonly Step[] = [
  readHead,
  findHost,
  identifyCaller,
  findRoute,
  allowPreflight,
  authenticate,
  fitProtocol,
  limitDepth,
  addForwarded,
];
