// One request on its way through the steps: what was read of it, and what the steps have found out.

import type { Access } from "#access/door.ts";
import type { Activator } from "#activator/door.ts";
import type { Identity } from "#model/access.ts";
import type { Clock } from "#model/clock.ts";
import type { EbbError } from "#model/errors.ts";
import type { Mirror } from "#store/door.ts";
import type { Outer, TrustedProxies } from "./forwarded.ts";
import type { Authority, AuthorityCache, HostRoute } from "./host.ts";
import type { RequestHead } from "./http1/request-parser.ts";
import type { Target } from "./target.ts";

/** What the steps need of the rest of ebb. */
export interface StepContext {
  readonly access: Pick<Access, "authenticate" | "authorize" | "looksLikeOurs" | "byCredential">;
  readonly activator: Pick<Activator, "depthIn">;
  readonly mirror: Pick<Mirror, "workload">;
  readonly clock: Clock;
  /** Host of workload names, canonical. */
  readonly base: string;
  readonly authorities: AuthorityCache;
  readonly trusted: TrustedProxies;
  /** Who is at this address on the links; null: nobody of ours. */
  readonly identifyLink: (address: string) => Identity | null;
}

/** Where a request goes in the end. */
export type Destination =
  | { readonly kind: "workload"; readonly project: string; readonly workload: string; readonly viaPath: boolean }
  | { readonly kind: "api" | "health" | "page" }
  /** A redirect. */
  | { readonly kind: "elsewhere"; readonly url: string }
  /** What a page of another origin asks to be allowed, as it asks for it. */
  | { readonly kind: "preflight"; readonly method: string; readonly headers: string | null };

/** Headers that the gateway itself understands; null: absent. Those that may be repeated are joined with ", ". */
export interface KnownHeaders {
  host: string | null;
  connection: string | null;
  expect: string | null;
  upgrade: string | null;
  authorization: string | null;
  ebbToken: string | null;
  ebbCredential: string | null;
  ebbInvocation: string | null;
  traceparent: string | null;
  forwardedFor: string | null;
  forwardedProto: string | null;
  forwardedHost: string | null;
  forwardedPrefix: string | null;
}

export class Inbound {
  readonly request: RequestHead;
  /** Of the listener for what runs inside. */
  readonly internal: boolean;
  readonly arrivedUs: number;
  /** The connection is to be given to another protocol. */
  readonly upgrade: boolean;
  readonly peer: string;
  readonly trusted: boolean;
  readonly known: KnownHeaders = {
    host: null,
    connection: null,
    expect: null,
    upgrade: null,
    authorization: null,
    ebbToken: null,
    ebbCredential: null,
    ebbInvocation: null,
    traceparent: null,
    forwardedFor: null,
    forwardedProto: null,
    forwardedHost: null,
    forwardedPrefix: null,
  };
  /** What goes on to the function: lower-case names and values in turn. */
  headers: string[] = [];
  /** Of the body; null: chunked; 0: there is none. */
  bodyBytes: number | null = 0;
  target: Target = noTarget;
  authority: Authority | null = null;
  outer: Outer = { scheme: "http", host: "", forwardedFor: "" };
  host: HostRoute = { kind: "foreign" };
  /** Path as the function shall see it, and what was taken off its front. */
  path = "/";
  prefix = "";
  destination: Destination | null = null;
  /** On the internal listener: the instance that calls. */
  caller: Identity | null = null;
  depth = 0;

  constructor(
    request: RequestHead,
    peer: string,
    context: StepContext,
    options: { internal: boolean; upgrade: boolean },
  ) {
    this.request = request;
    this.internal = options.internal;
    this.upgrade = options.upgrade;
    this.arrivedUs = context.clock.monotonicUs();
    this.peer = peer;
    this.trusted = !options.internal && context.trusted.has(this.peer);
  }
}

const noTarget: Target = { path: "/", query: "", authority: null };

/** An error is the answer; null: on to the next step. */
export type Step = (inbound: Inbound, context: StepContext) => EbbError | null;
