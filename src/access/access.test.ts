// What tokens, credentials and sealed secrets promise.

import assert from "node:assert/strict";
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Secret, Token } from "#model/access.ts";
import { accessLimits } from "#model/limits.ts";
import { createAccess } from "./access.ts";
import { covers, mayGrant, refuse, scopes } from "./decide.ts";

const folder = mkdtempSync(join(tmpdir(), "ebb-access-"));
after(() => rmSync(folder, { recursive: true }));
let files = 0;

function room(keyFile = join(folder, `key-${files++}`)) {
  const tokens = new Map<string, Token>();
  const secrets: Secret[] = [];
  const project = { name: "default", quotas: { memoryMb: null, instances: null, ratePerSecond: null }, createdMs: 0 };
  const mirror = {
    projects: () => [project],
    secrets: () => secrets,
    tokenByHash: (hash: string) => tokens.get(hash) ?? null,
  };
  const access = createAccess({ mirror, keyFile });
  const mint = (options: Partial<Parameters<typeof access.mint>[0]> = {}) => {
    const minted = access.mint({ name: "t", project: null, scope: "admin", expiresMs: null, nowMs: 1, ...options });
    tokens.set(minted.token.hash, minted.token);
    return minted;
  };
  return { access, tokens, secrets, mint, keyFile };
}

test("a token is ebb_ and 256 bits, and only its hash is kept", () => {
  const { mint } = room();
  const { text, token } = mint();
  assert.match(text, /^ebb_[A-Za-z0-9_-]{43}$/);
  assert.match(token.hash, /^[0-9a-f]{64}$/);
  assert.ok(!JSON.stringify(token).includes(text));
});

test("a token is known until it expires or is removed, at once", () => {
  const { access, mint, tokens } = room();
  const { text, token } = mint({ name: "ci", project: "photos", scope: "deploy", expiresMs: 100 });
  assert.deepEqual(access.authenticate(text, 99), { name: "ci", project: "photos", scope: "deploy", instance: null });
  assert.equal(access.authenticate(text, 100), null);
  tokens.delete(token.hash);
  assert.equal(access.authenticate(text, 50), null);
});

test("what is not shaped like a token is refused before it is hashed", () => {
  const { access } = room();
  for (const text of ["", "ebb_", `ebb_${"a".repeat(44)}`, `ebb_${"a".repeat(42)}é`, "x".repeat(1_000_000)])
    assert.equal(access.authenticate(text, 1), null);
});

test("scopes contain what DESIGN says, and no more", () => {
  const table = Object.fromEntries(scopes.map((scope) => [scope, scopes.filter((needed) => covers(scope, needed))]));
  assert.deepEqual(table, {
    admin: ["admin", "deploy", "read", "invoke"],
    deploy: ["deploy", "read", "invoke"],
    read: ["read"],
    invoke: ["invoke"],
  });
});

test("an identity reaches its project, or everything when it is bound to none", () => {
  const bound = { name: "p", project: "photos", scope: "admin", instance: null } as const;
  const free = { ...bound, project: null };
  assert.equal(refuse(bound, "read", "photos"), null);
  assert.equal(refuse(bound, "read", "other")?.code, "forbidden");
  assert.equal(refuse(bound, "read", null)?.code, "forbidden");
  assert.equal(refuse(free, "admin", null), null);
  assert.equal(refuse(free, "read", "other"), null);
  assert.equal(refuse(null, "read", "other")?.code, "unauthenticated");
  assert.match(refuse({ ...bound, scope: "read" }, "deploy", "photos")?.message ?? "", /scope read, this needs deploy/);
});

test("nobody hands out more than they have", () => {
  const bound = { name: "p", project: "photos", scope: "deploy", instance: null } as const;
  assert.equal(mayGrant(bound, "invoke", "photos"), true);
  assert.equal(mayGrant(bound, "admin", "photos"), false);
  assert.equal(mayGrant(bound, "invoke", null), false);
  assert.equal(mayGrant(bound, "invoke", "other"), false);
});

test("a short-lived token invokes, ends at its time, dies with its parent, and breeds no other", () => {
  const { access, mint, tokens } = room();
  const parent = mint({ scope: "deploy" });
  const by = access.authenticate(parent.text, 10)!;
  const { text, expiresMs } = access.mintShort({ project: "default", nowMs: 10, by });
  assert.equal(expiresMs, 10 + accessLimits.shortTokenMs);
  const identity = access.authenticate(text, 11)!;
  assert.deepEqual([identity.scope, identity.project], ["invoke", "default"]);
  assert.throws(() => access.mintShort({ project: "default", nowMs: 12, by: identity }), { code: "forbidden" });
  assert.equal(access.authenticate(text, expiresMs), null);

  const second = access.mintShort({ project: "default", nowMs: 10, by }).text;
  tokens.delete(parent.token.hash);
  assert.equal(access.authenticate(second, 11), null);
});

test("an instance's credential is its project's, and dies with it", () => {
  const { access } = room();
  const credential = access.mintCredential("i1", "photos");
  assert.deepEqual(access.byCredential(credential), {
    name: "instance i1",
    project: "photos",
    scope: "invoke",
    instance: "i1",
  });
  assert.equal(access.authenticate(credential, 1), null, "it is no token");
  access.revokeCredential("i1");
  assert.equal(access.byCredential(credential), null);
});

test("our tokens are spotted in Authorization, in Basic's base64 too", () => {
  const { access, mint } = room();
  const { text } = mint();
  const basic = `Basic ${Buffer.from(`user:${text}`).toString("base64")}`;
  for (const header of [`Bearer ${text}`, `bearer  ${text}`, text, basic, `Bearer ${access.mintCredential("i", "p")}`])
    assert.equal(access.looksLikeOurs(header), true, header);
  for (const header of ["", "Bearer eyJhbGciOi", "Basic dXNlcjpwYXNz", "Bearer ebb_short"])
    assert.equal(access.looksLikeOurs(header), false, header);
});

test("a sealed secret opens only for its own project, name and version", () => {
  const { access } = room();
  access.start();
  const sealed = access.seal("photos", "DB_PASSWORD", "hünter2", 3, 7);
  assert.ok(!JSON.stringify(sealed).includes("ünter2"));
  assert.equal(access.open(sealed), "hünter2");
  for (const moved of [{ project: "other" }, { name: "API_KEY" }, { version: 4 }])
    assert.throws(() => access.open({ ...sealed, ...moved }), { code: "internal" });
  const bytes = Buffer.from(sealed.sealed, "base64");
  bytes[bytes.length - 1]! ^= 1;
  assert.throws(() => access.open({ ...sealed, sealed: bytes.toString("base64") }), { code: "internal" });
  assert.notEqual(access.seal("photos", "DB_PASSWORD", "hünter2", 3, 7).sealed, sealed.sealed);
});

test("the key is made once, private, and read again", () => {
  const first = room();
  first.access.start();
  assert.equal(statSync(first.keyFile).mode & 0o777, 0o600);
  assert.equal(readFileSync(first.keyFile).length, 32);
  const sealed = first.access.seal("p", "A", "v", 1, 1);
  const again = room(first.keyFile);
  again.access.start();
  assert.equal(again.access.open(sealed), "v");
});

test("a start that is killed while it makes the key leaves none that the next one would refuse", () => {
  const path = join(folder, "killed");
  // What it was writing under another name; the key's own name appears with all of it.
  writeFileSync(`${path}.${process.pid}.new`, "", { mode: 0o600 });
  room(path).access.start();
  assert.equal(readFileSync(path).length, 32);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith("killed")),
    ["killed"],
  );
});

test("a key file that cannot be right stops the start with one sentence", () => {
  const cases: Array<[string, (path: string) => void, RegExp]> = [
    ["empty", (path) => writeFileSync(path, "", { mode: 0o600 }), /has 0 bytes instead of 32/],
    ["short", (path) => writeFileSync(path, "abc", { mode: 0o600 }), /has 3 bytes instead of 32/],
    ["zeros", (path) => writeFileSync(path, Buffer.alloc(32), { mode: 0o600 }), /holds no key/],
    ["open to others", (path) => (writeFileSync(path, Buffer.alloc(32, 1)), chmodSync(path, 0o644)), /chmod 600/],
    ["a link", (path) => symlinkSync("/etc/passwd", path), /is a link/],
  ];
  for (const [name, make, sentence] of cases) {
    const path = join(folder, `bad-${name.replaceAll(" ", "-")}`);
    make(path);
    assert.throws(() => room(path).access.start(), sentence, name);
  }
});

test("a missing key is not replaced while secrets are stored, nor is a wrong one taken", () => {
  const first = room();
  first.access.start();
  const sealed = first.access.seal("default", "A", "v", 1, 1);

  const missing = room();
  missing.secrets.push(sealed);
  assert.throws(() => missing.access.start(), /is missing, and secrets are stored/);

  const other = room();
  other.access.start();
  other.secrets.push(sealed);
  assert.throws(() => other.access.start(), /cannot be opened with this data directory's key/);
});
