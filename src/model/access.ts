// Who may: scopes, tokens, identities, secrets and the audit of what they did.

/** Each scope contains the ones after it, but that `invoke` and `read` contain nothing: admin > deploy > read | invoke. */
export type Scope = "admin" | "deploy" | "read" | "invoke";

export interface Token {
  /** Short random name of the row; what `tokens rm` takes. */
  readonly id: string;
  readonly name: string;
  /** null: every project, and the projects themselves (only with scope admin). */
  readonly project: string | null;
  readonly scope: Scope;
  /** SHA-256 of the token, hex; the token itself is stored nowhere. */
  readonly hash: string;
  readonly createdMs: number;
  /** Epoch ms; null: never. */
  readonly expiresMs: number | null;
}

/** Whoever is asking, once authenticated. */
export interface Identity {
  /** Shown in the audit and as `createdBy`. */
  readonly name: string;
  readonly project: string | null;
  readonly scope: Scope;
  /** Set where an instance asks through ebb.internal. */
  readonly instance: string | null;
}

export interface Secret {
  readonly project: string;
  readonly name: string;
  /** AES-256-GCM: nonce, tag and ciphertext, base64; bound to project and name. */
  readonly sealed: string;
  /** Counts up with each `secrets set`: a new value replaces the instances. */
  readonly version: number;
  readonly updatedMs: number;
}

/** One row for each command, refused ones too. */
export interface AuditEntry {
  readonly timeMs: number;
  readonly identity: string;
  /** Noun and verb, as in control/: "workloads deploy". */
  readonly command: string;
  readonly project: string | null;
  readonly target: string | null;
  readonly outcome: "ok" | "refused" | "failed";
  /** Words for a reader; never a secret. */
  readonly detail: string;
}
