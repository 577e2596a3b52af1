// What exists, in the main thread's memory: plain maps, changed only by what the store has committed.

import type { Secret, Token } from "#model/access.ts";
import { keyOf, type Project, type Revision, type Workload } from "#model/workload.ts";
import type { Mirror, Mutation, Snapshot } from "./door.ts";

interface Deployed {
  readonly workload: Workload;
  readonly revision: Revision;
}

type Listener = (mutations: readonly Mutation[]) => void;

export class MapMirror implements Mirror {
  #projects = new Map<string, Project>();
  /** By project, then by name. */
  #workloads = new Map<string, Map<string, Deployed>>();
  #tokensByHash = new Map<string, Token>();
  #tokens = new Map<string, Token>();
  #secrets = new Map<string, Map<string, Secret>>();
  readonly #listeners: Listener[] = [];

  project(name: string): Project | null {
    return this.#projects.get(name) ?? null;
  }
  projects(): Iterable<Project> {
    return this.#projects.values();
  }
  workload(project: string, name: string): Deployed | null {
    return this.#workloads.get(project)?.get(name) ?? null;
  }
  *workloads(project?: string): Iterable<Deployed> {
    if (project !== undefined) yield* this.#workloads.get(project)?.values() ?? [];
    else for (const of of this.#workloads.values()) yield* of.values();
  }
  tokenByHash(hash: string): Token | null {
    return this.#tokensByHash.get(hash) ?? null;
  }
  *tokens(project: string | null): Iterable<Token> {
    for (const token of this.#tokens.values()) if (project === null || token.project === project) yield token;
  }
  secret(project: string, name: string): Secret | null {
    return this.#secrets.get(project)?.get(name) ?? null;
  }
  secrets(project: string): Iterable<Secret> {
    return this.#secrets.get(project)?.values() ?? [];
  }
  onChange(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** `revisions`: those that the store found for the workloads put (StoreDriver.apply). */
  apply(mutations: readonly Mutation[], revisions: readonly Revision[]): void {
    const found = new Map(revisions.map((revision) => [`${keyOf(revision)}@${revision.number}`, revision]));
    for (const mutation of mutations) this.#mutate(mutation, found);
    for (const listener of this.#listeners) listener(mutations);
  }

  /** Takes over what the store says there is; listeners hear what differs (after a worker died in the middle of a commit). */
  reset(snapshot: Snapshot): void {
    const before = new MapMirror();
    before.#projects = this.#projects;
    before.#workloads = this.#workloads;
    before.#tokens = this.#tokens;
    before.#secrets = this.#secrets;
    this.#projects = new Map(snapshot.projects.map((project) => [project.name, project]));
    this.#workloads = new Map();
    this.#tokens = new Map();
    this.#tokensByHash = new Map();
    this.#secrets = new Map();
    const revisions = new Map(snapshot.revisions.map((revision) => [keyOf(revision), revision]));
    for (const workload of snapshot.workloads) {
      const revision = revisions.get(keyOf(workload));
      if (revision) this.#putWorkload(workload, revision);
    }
    for (const token of snapshot.tokens) this.#putToken(token);
    for (const secret of snapshot.secrets) this.#putSecret(secret);
    if (this.#listeners.length === 0) return;
    const mutations = difference(before, this);
    if (mutations.length > 0) for (const listener of this.#listeners) listener(mutations);
  }

  #mutate(mutation: Mutation, revisions: ReadonlyMap<string, Revision>): void {
    switch (mutation.kind) {
      case "put_project":
        this.#projects.set(mutation.project.name, mutation.project);
        return;
      case "remove_project":
        this.#projects.delete(mutation.project);
        this.#workloads.delete(mutation.project);
        this.#secrets.delete(mutation.project);
        for (const token of this.tokens(mutation.project)) this.#removeToken(token.id);
        return;
      case "put_workload": {
        const { workload } = mutation;
        const revision = revisions.get(`${keyOf(workload)}@${workload.current}`);
        if (revision) this.#putWorkload(workload, revision);
        return;
      }
      case "remove_workload":
        remove(this.#workloads, mutation.key.project, mutation.key.workload);
        return;
      case "put_revision": {
        const { revision } = mutation;
        const known = this.workload(revision.project, revision.workload);
        if (known?.workload.current === revision.number) this.#putWorkload(known.workload, revision);
        return;
      }
      case "remove_revision":
        return;
      case "put_token":
        this.#removeToken(mutation.token.id);
        this.#putToken(mutation.token);
        return;
      case "remove_token":
        this.#removeToken(mutation.id);
        return;
      case "put_secret":
        this.#putSecret(mutation.secret);
        return;
      case "remove_secret":
        remove(this.#secrets, mutation.project, mutation.name);
    }
  }

  #putWorkload(workload: Workload, revision: Revision): void {
    put(this.#workloads, workload.project, workload.workload, { workload, revision });
  }
  #putSecret(secret: Secret): void {
    put(this.#secrets, secret.project, secret.name, secret);
  }
  #putToken(token: Token): void {
    this.#tokens.set(token.id, token);
    this.#tokensByHash.set(token.hash, token);
  }
  #removeToken(id: string): void {
    const token = this.#tokens.get(id);
    if (!token) return;
    this.#tokens.delete(id);
    this.#tokensByHash.delete(token.hash);
  }
}

function put<T>(maps: Map<string, Map<string, T>>, outer: string, inner: string, value: T): void {
  const map = maps.get(outer);
  if (map) map.set(inner, value);
  else maps.set(outer, new Map([[inner, value]]));
}

function remove<T>(maps: Map<string, Map<string, T>>, outer: string, inner: string): void {
  const map = maps.get(outer);
  if (!map?.delete(inner)) return;
  if (map.size === 0) maps.delete(outer);
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The mutations that make `after` of `before`. */
function difference(before: Mirror, after: Mirror): Mutation[] {
  const mutations: Mutation[] = [];
  for (const project of after.projects())
    if (!same(project, before.project(project.name))) mutations.push({ kind: "put_project", project });
  for (const { workload, revision } of after.workloads()) {
    const old = before.workload(workload.project, workload.workload);
    if (old && same(old, { workload, revision })) continue;
    mutations.push({ kind: "put_revision", revision }, { kind: "put_workload", workload });
  }
  for (const { workload } of before.workloads())
    if (!after.workload(workload.project, workload.workload))
      mutations.push({ kind: "remove_workload", key: { project: workload.project, workload: workload.workload } });
  const tokens = new Map(Array.from(after.tokens(null), (token) => [token.id, token]));
  const oldTokens = new Map(Array.from(before.tokens(null), (token) => [token.id, token]));
  for (const token of tokens.values())
    if (!same(token, oldTokens.get(token.id))) mutations.push({ kind: "put_token", token });
  for (const { id } of oldTokens.values()) if (!tokens.has(id)) mutations.push({ kind: "remove_token", id });
  secretDifference(before, after, mutations);
  for (const { name } of before.projects())
    if (!after.project(name)) mutations.push({ kind: "remove_project", project: name });
  return mutations;
}

function secretDifference(before: Mirror, after: Mirror, mutations: Mutation[]): void {
  const projects = new Set([...before.projects(), ...after.projects()].map((project) => project.name));
  for (const project of projects) {
    for (const secret of after.secrets(project))
      if (before.secret(project, secret.name)?.version !== secret.version)
        mutations.push({ kind: "put_secret", secret });
    for (const { name } of before.secrets(project))
      if (!after.secret(project, name)) mutations.push({ kind: "remove_secret", project, name });
  }
}
