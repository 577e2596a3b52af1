// The room: authenticates, authorises, mints and seals. Stored tokens are looked up in the mirror, so that a removal counts at once.

import { timingSafeEqual } from "node:crypto";
import type { Identity, Scope, Secret, Token } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { randomHex } from "#model/ids.ts";
import { accessLimits } from "#model/limits.ts";
import type { Mirror } from "#store/door.ts";
import { expired, refuse } from "./decide.ts";
import type { Access, MintedToken } from "./door.ts";
import { readOrCreateKey } from "./key.ts";
import { openValue, sealValue } from "./seal.ts";
import { hashOf, isCredential, isToken, looksLikeOurs, newCredential, newToken } from "./tokens.ts";

export interface AccessOptions {
  readonly mirror: Pick<Mirror, "projects" | "secrets" | "tokenByHash">;
  /** Of the data directory; made at the first start. */
  readonly keyFile: string;
}

export interface AccessRoom extends Access {
  /** After the store has filled the mirror: reads or makes the key. Throws one sentence for the operator. */
  start(): void;
}

/** Lives in memory only; dies with the daemon, at its time, or with the token that asked for it. */
interface ShortToken {
  readonly identity: Identity;
  /** Hash of the stored token that asked for it; null: ebb itself did. */
  readonly parentHash: string | null;
  readonly expiresMs: number;
}

export function createAccess({ mirror, keyFile }: AccessOptions): AccessRoom {
  const short = new Map<string, ShortToken>();
  // One identity a token, so that the request path allocates nothing; and back, for what a short-lived token descends from.
  const identities = new WeakMap<Token, Identity>();
  const tokens = new WeakMap<Identity, Token>();
  const shortIdentities = new WeakSet<Identity>();
  const credentials = new Map<string, { readonly hash: string }>();
  const byHash = new Map<string, Identity>();
  let key: Buffer | null = null;

  const theKey = (): Buffer => {
    if (key === null) throw new Error("access is not started");
    return key;
  };

  function identityOf(token: Token): Identity {
    let identity = identities.get(token);
    if (!identity) {
      identity = { name: token.name, project: token.project, scope: token.scope, instance: null };
      identities.set(token, identity);
      tokens.set(identity, token);
    }
    return identity;
  }

  function parentLives(parentHash: string | null, nowMs: number): boolean {
    if (parentHash === null) return true;
    const parent = mirror.tokenByHash(parentHash);
    return parent !== null && !expired(parent.expiresMs, nowMs);
  }

  function revoke(instance: string): void {
    const credential = credentials.get(instance);
    if (!credential) return;
    credentials.delete(instance);
    byHash.delete(credential.hash);
  }

  return {
    start() {
      key = readOrCreateKey(keyFile, firstSecret(mirror) === null);
      const probe = firstSecret(mirror);
      if (probe) openValue(key, probe, probe.sealed);
    },

    authenticate(text, nowMs) {
      if (!isToken(text)) return null;
      const hash = hashOf(text);
      const token = mirror.tokenByHash(hash);
      if (token) return sameHash(token.hash, hash) && !expired(token.expiresMs, nowMs) ? identityOf(token) : null;
      const found = short.get(hash);
      if (!found) return null;
      if (!expired(found.expiresMs, nowMs) && parentLives(found.parentHash, nowMs)) return found.identity;
      short.delete(hash);
      return null;
    },

    authorize: refuse,

    mint({ name, project, scope, expiresMs, nowMs }): MintedToken {
      const text = newToken();
      const token = { id: randomHex(6), name, project, scope, hash: hashOf(text), createdMs: nowMs, expiresMs };
      return { text, token };
    },

    mintShort({ project, nowMs, by }) {
      if (by && shortIdentities.has(by))
        throw new EbbError("forbidden", "a short-lived token cannot mint another; use the token that it came from");
      for (const [hash, { expiresMs }] of short) if (expired(expiresMs, nowMs)) short.delete(hash);
      if (short.size >= accessLimits.shortTokens)
        throw new EbbError("over_quota", `${accessLimits.shortTokens} short-lived tokens are in use`, {
          retryAfterSeconds: 60,
        });
      const text = newToken();
      const expiresMs = nowMs + accessLimits.shortTokenMs;
      const scope: Scope = "invoke";
      const name = `short-lived of ${by?.name ?? "ebb"}`;
      const identity: Identity = { name, project, scope, instance: null };
      shortIdentities.add(identity);
      short.set(hashOf(text), { identity, parentHash: (by && tokens.get(by)?.hash) ?? null, expiresMs });
      return { text, expiresMs };
    },

    seal(project, name, value, version, nowMs): Secret {
      const sealed = sealValue(theKey(), { project, name, version }, value);
      return { project, name, sealed, version, updatedMs: nowMs };
    },

    open: (secret) => openValue(theKey(), secret, secret.sealed),

    looksLikeOurs,

    mintCredential(instance, project) {
      const text = newCredential();
      const hash = hashOf(text);
      revoke(instance);
      const identity: Identity = { name: `instance ${instance}`, project, scope: "invoke", instance };
      credentials.set(instance, { hash });
      byHash.set(hash, identity);
      return text;
    },

    revokeCredential: revoke,

    byCredential: (text) => (isCredential(text) ? (byHash.get(hashOf(text)) ?? null) : null),
  };
}

function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

function firstSecret(mirror: AccessOptions["mirror"]): Secret | null {
  for (const project of mirror.projects()) for (const secret of mirror.secrets(project.name)) return secret;
  return null;
}
