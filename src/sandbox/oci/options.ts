// What the oci driver is given.

import type { Image } from "#images/door.ts";
import type { Network } from "#network/door.ts";
import type { Allocator, Spawner, Supervisor } from "#spawner/door.ts";
import type { Engine } from "./engine.ts";
import type { RootsOptions } from "./roots.ts";

export interface OciOptions {
  readonly spawner: Spawner;
  readonly allocator: Allocator;
  /** null: every sandbox is alone in its network namespace (no egress, no runtime custom). */
  readonly network: (Pick<Network, "take" | "admit" | "giveBack" | "gateway"> & Partial<Pick<Network, "leave">>) | null;
  /** Launches what is to live on when ebb dies; left out: nothing does. */
  readonly supervisor?: Supervisor | null;
  readonly dataDir: string;
  /** The folder of all stored code. */
  readonly codeRoot: string;
  /** Absolute folder of a digest, below `codeRoot`. */
  readonly folderOf: (digest: string) => string;
  /** Absolute folder of compiled code by its name, on the same file system. */
  readonly loadCacheOf: (name: string) => string;
  /** What there is of an image; left out: there are none. */
  readonly imageOf?: (digest: string) => Image | null;
  /** How long an image's program has to serve; left out: as limits.ts says. */
  readonly programStartMs?: number;
  /** The Node binary for a runtime; fetched on first use. */
  readonly node: RootsOptions["node"];
  /** The project's runtimes/ folder. */
  readonly runtimes: string;
  /** For all sandboxes together. */
  readonly memoryBytes: number;
  /** Which engines may be used, in order; left out: crun, then runc. */
  readonly engines?: readonly Engine["name"][];
  /** What the operator may want to know of the start. */
  readonly progress?: (what: string) => void;
}
