// Who may: tokens, scopes, identities and secrets.

import type { Identity, Scope, Secret, Token } from "#model/access.ts";
import type { EbbError } from "#model/errors.ts";

export interface MintedToken {
  /** `ebb_` and 256 random bits, base64url; shown once. */
  readonly text: string;
  readonly token: Token;
}

export interface Access {
  /** Null: not one of ours, expired or removed. One hash and one look-up. */
  authenticate(text: string, nowMs: number): Identity | null;
  /** Null: it may. `project` null: the projects themselves, and what spans them. */
  authorize(identity: Identity | null, needs: Scope, project: string | null): EbbError | null;
  mint(options: {
    name: string;
    project: string | null;
    scope: Scope;
    expiresMs: number | null;
    nowMs: number;
  }): MintedToken;
  /**
   * Short-lived invoke tokens for curl are kept in memory only: they die with the daemon, at their time, and with the token
   * of `by`. A short-lived token cannot mint another (EbbError forbidden).
   */
  mintShort(options: { project: string; nowMs: number; by?: Identity }): {
    readonly text: string;
    readonly expiresMs: number;
  };
  seal(project: string, name: string, value: string, version: number, nowMs: number): Secret;
  open(secret: Secret): string;
  /** Is there one of our tokens in this Authorization header? */
  looksLikeOurs(authorization: string): boolean;
  /** The credential of an instance, scoped to its project, dead when it is. */
  mintCredential(instance: string, project: string): string;
  revokeCredential(instance: string): void;
  /** Null: not a living instance's. */
  byCredential(credential: string): Identity | null;
}
