// What exists, in the main thread's memory: plain maps, changed only by what the store has committed.

import type { Secret, Token } from "#model/access.ts";
import { keyOf, type Project, type Revision, type Workload } from "#model/workload.ts";
import type { Mirror, Mutation } from "./door.ts";
import type { Part } from "./driver.ts";
import { deployedOf, type Deployed } from "./parts.ts";

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
  count(project: string): number {
    return this.#workloads.get(project)?.size ?? 0;
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

  /** For what the store says there is, part by part; shown when it is `done`, and listeners hear what differs from before. */
  refill(): { add(part: Part): void; done(): void } {
    const filled = new MapMirror();
    const alike = new Alike();
    return {
      add(part) {
        for (const project of part.projects) filled.#projects.set(project.name, project);
        for (const token of part.tokens) filled.#putToken(token);
        for (const secret of part.secrets) filled.#putSecret(secret);
        for (const { workload, revision } of deployedOf(part)) {
          filled.#putWorkload(workload, alike.revision(revision));
        }
      },
      done: () => this.#become(filled),
    };
  }

  #become(filled: MapMirror): void {
    const before = new MapMirror();
    before.#take(this);
    this.#take(filled);
    if (this.#listeners.length === 0) return;
    const mutations = difference(before, this);
    if (mutations.length > 0) for (const listener of this.#listeners) listener(mutations);
  }

  #take(from: MapMirror): void {
    this.#projects = from.#projects;
    this.#workloads = from.#workloads;
    this.#tokens = from.#tokens;
    this.#tokensByHash = from.#tokensByHash;
    this.#secrets = from.#secrets;
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
      // The room jobs knows the runs that matter.
      case "put_run":
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

/** Makes one of values that are the same: most functions have the settings that many have. Kept while a mirror is filled. */
class Alike {
  readonly #known = new Map<string, unknown>();

  /** A revision of which others' equal parts are shared. */
  revision<T extends Revision>(revision: T): T {
    return { ...revision, settings: this.of(revision.settings), settingSources: this.of(revision.settingSources) };
  }

  of<T>(value: T): T {
    const text = JSON.stringify(value);
    const known = this.#known.get(text);
    if (known !== undefined) return known as T;
    if (this.#known.size < alikeMost) this.#known.set(text, value);
    return value;
  }
}

/** What many have is met early. */
const alikeMost = 10_000;

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

function sameWorkload(a: Workload, b: Workload): boolean {
  return a.current === b.current && a.updatedMs === b.updatedMs && a.createdMs === b.createdMs && a.kind === b.kind;
}

/** A revision does not change; one of the same number may have taken the place of another when its workload was removed meanwhile. */
function sameRevision(a: Revision, b: Revision): boolean {
  return a.number === b.number && a.digest === b.digest && a.createdMs === b.createdMs;
}

/** The mutations that make `after` of `before`. */
function difference(before: Mirror, after: Mirror): Mutation[] {
  const mutations: Mutation[] = [];
  for (const project of after.projects())
    if (!same(project, before.project(project.name))) mutations.push({ kind: "put_project", project });
  for (const { workload, revision } of after.workloads()) {
    const old = before.workload(workload.project, workload.workload);
    if (old && sameWorkload(old.workload, workload) && sameRevision(old.revision, revision)) continue;
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
