// Links between sandboxes and the world: what may go out, how names are resolved, and the one way in to ebb.

import type { Egress, EgressClass } from "#model/workload.ts";

/** A sandbox's end of a link: made ahead, taken at a start, given back after the sandbox is gone. */
export interface Link {
  readonly id: string;
  /** Path of the network namespace, to be joined by the engine. */
  readonly namespacePath: string;
  /** IPv4 address of the sandbox on the link; identifies it (it cannot be forged: no raw sockets, no capability). */
  readonly address: string;
  /** ebb's address on the link: resolver on port 53, ebb.internal on port 80. */
  readonly gateway: string;
  /** How many had it before. */
  readonly uses?: number;
}

/** Whose instance a link serves, and what that may reach. */
export interface Admission {
  readonly project: string;
  readonly workload: string;
  readonly egress: Egress;
}

/** What the next daemon must know of a link whose sandbox lives on: JSON. */
export interface LeftLink {
  /** Name of the table, and of the host's interface. */
  readonly network: string;
  /** Number of its subnet. */
  readonly subnet: number;
  readonly link: Link & {
    readonly egress: EgressClass;
    readonly index: number;
    readonly device: string;
    readonly mark: number;
  };
}

export interface NetworkProblem {
  readonly what: string;
  readonly remedy: string;
}

export interface Network {
  /** Bridge, rules, resolver; throws one clear sentence when the machine cannot give isolation. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /**
   * From the pool; waits only when it is empty. The egress rule stands before it resolves. `as`: one that was given back with the very
   * same word comes first.
   */
  take(egress: EgressClass, as?: string): Promise<Link>;
  /**
   * Once for a link, before the instance's code runs: opens what its list, or its project's permit, opens beyond the link's class.
   * Costs nothing where neither names an address.
   */
  admit(link: Link, admission: Admission): Promise<void>;
  /** A project's permit may have changed: it holds for new connections. */
  permitsChanged(): void;
  /** `as`: nobody is behind it any more; where it is as new, whoever takes one with the same word may have it. */
  giveBack(link: Link, as?: string): void;
  /** To be told to a network that is started with it. */
  leave(link: Link): LeftLink;
  /** ebb's address on every link; the gateway listens there for http://ebb.internal. */
  readonly gateway: string;
  /** Where to listen on `gateway` for ebb.internal: 80, or where another program holds that on all addresses, what 80 is redirected to. */
  readonly internalPort: number;
  /** What the host's own firewall or settings will break (Docker's FORWARD policy, ip_forward off). */
  problems(): Promise<readonly NetworkProblem[]>;
}
