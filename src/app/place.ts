// A place in a YAML file: one value with its path and its line, and the words for what was found there instead.

import { type Alias, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node, type Pair, Scalar } from "yaml";
import type { AppProblem } from "./door.ts";

/** More problems than a reader mends in one go; the rest are counted. */
const problemsMax = 50;
/** Visits of keys and items through aliases; a bomb of nested aliases needs billions. */
const visitsMax = 50_000;

/** Everything that is wrong with one file. */
export class Report {
  readonly file: string;
  readonly #problems: AppProblem[] = [];
  readonly #lines: LineCounter;
  #left = 0;
  #visits = 0;

  constructor(file: string, lines: LineCounter) {
    this.file = file;
    this.#lines = lines;
  }

  /** Counts from 1. The line counter answers 0 for an empty file. */
  lineAt(offset: number): number {
    return Math.max(1, this.#lines.linePos(offset).line);
  }

  add(line: number, path: string, message: string): void {
    if (this.#problems.length < problemsMax) this.#problems.push({ file: this.file, line, path, message });
    else this.#left += 1;
  }

  /** False once so much has been visited that only a bomb can be meant. */
  visit(): boolean {
    this.#visits += 1;
    return this.#visits <= visitsMax;
  }

  get clean(): boolean {
    return this.#problems.length === 0;
  }

  /** In the order of the file. */
  problems(): AppProblem[] {
    const sorted = this.#problems.toSorted((a, b) => a.line - b.line);
    const last = sorted.at(-1);
    if (last && this.#left > 0)
      sorted.push({ file: this.file, line: last.line, path: "", message: `and ${this.#left} more problems` });
    return sorted;
  }
}

export interface Entry {
  readonly key: string;
  readonly value: Place;
}

/** One value of the file. Its readers answer undefined after having reported what is wrong. */
export class Place {
  readonly path: string;
  readonly line: number;
  /** Where its key stands. */
  readonly keyLine: number;
  readonly #node: Node | null;
  readonly #report: Report;
  readonly #anchors: ReadonlyMap<string, Node>;

  /** `line` is where the key stands: used where the value is empty or comes from elsewhere. */
  constructor(report: Report, anchors: ReadonlyMap<string, Node>, node: Node | null, path: string, line: number) {
    this.#report = report;
    this.#anchors = anchors;
    this.path = path;
    this.keyLine = line;
    const target = isAlias(node) ? follow(node, anchors) : node;
    this.line = node?.range && !isEmpty(node) ? report.lineAt(node.range[0]) : line;
    this.#node = target;
  }

  /** Answers undefined, as its caller does then: `return at.problem(…)`. */
  problem(message: string): undefined {
    this.#report.add(this.line, this.path, message);
    return undefined;
  }

  /** What is wrong with the key, not with the value. */
  keyProblem(message: string): void {
    this.#report.add(this.keyLine, this.path, message);
  }

  /** What is wrong with a key that is not there. */
  problemAt(key: string, message: string): void {
    this.#report.add(this.keyLine, this.path === "" ? key : `${this.path}.${key}`, message);
  }

  expected(what: string): undefined {
    return this.problem(`expected ${what}, found ${this.found()}`);
  }

  get isNothing(): boolean {
    return this.#node === null || (isEmpty(this.#node) && !this.#node.tag);
  }

  get isScalar(): boolean {
    return isScalar(this.#node);
  }

  get isList(): boolean {
    return isSeq(this.#node);
  }

  /** A value that is neither quoted nor text: what YAML's core schema made of it. */
  get plainValue(): unknown {
    const node = this.#node;
    if (!isScalar(node) || node.tag !== undefined || node.type !== Scalar.PLAIN) return undefined;
    return node.value;
  }

  /** The words for what stands here, for a sentence. */
  found(): string {
    const node = this.#node;
    if (isAlias(node)) return `the alias *${brief(node.source)} of an unknown anchor`;
    if (isMap(node)) return "a mapping";
    if (isSeq(node)) return "a list";
    if (this.isNothing) return "nothing";
    if (!isScalar(node)) return "something else";
    if (node.tag !== undefined) return `the tag ${brief(node.tag)}`;
    const text = sourceOf(node);
    return node.type === Scalar.PLAIN && typeof node.value !== "string" ? brief(text) : JSON.stringify(brief(text));
  }

  /** The scalar's own text, whatever YAML would make of it: `on`, `0123` and `1e3` stay what they are. */
  writtenText(what: string): string | undefined {
    const node = this.#node;
    if (node === null) return "";
    if (isScalar(node) && node.tag === undefined) return sourceOf(node);
    this.expected(what);
    return undefined;
  }

  items(what: string): Place[] | undefined {
    const node = this.#node;
    if (!isSeq(node) || node.tag !== undefined) {
      this.expected(what);
      return undefined;
    }
    const places: Place[] = [];
    for (const [index, item] of node.items.entries()) {
      if (!this.#report.visit()) return this.#tooMuch();
      places.push(new Place(this.#report, this.#anchors, item as Node | null, `${this.path}[${index}]`, this.line));
    }
    return places;
  }

  /** Keys and values; `<<` is merged in behind what is written here; a key that stands twice is reported. */
  entries(what: string): Entry[] | undefined {
    const seen = new Map<string, Entry>();
    if (!isMap(this.#node) || this.#node.tag !== undefined) {
      this.expected(what);
      return undefined;
    }
    return this.#gather(this.#node, seen, 0) ? [...seen.values()] : undefined;
  }

  #gather(node: Node, into: Map<string, Entry>, depth: number): boolean {
    if (!isMap(node)) return true;
    const merges: Array<{ value: Node | null; line: number }> = [];
    const own = new Set<string>();
    for (const pair of node.items as Array<Pair<Node, Node | null>>) {
      if (!this.#report.visit()) return this.#tooMuch() !== undefined;
      const line = pair.key?.range ? this.#report.lineAt(pair.key.range[0]) : this.line;
      if (!isScalar(pair.key) || pair.key.tag !== undefined) {
        this.#report.add(line, this.path, "expected a plain name as the key");
        continue;
      }
      const key = sourceOf(pair.key);
      if (key === "<<" && pair.key.type === Scalar.PLAIN) {
        merges.push({ value: pair.value, line });
        continue;
      }
      const path = this.path === "" ? brief(key) : `${this.path}.${brief(key)}`;
      if (own.has(key)) this.#report.add(line, path, "this key stands here twice");
      own.add(key);
      if (!into.has(key)) into.set(key, { key, value: new Place(this.#report, this.#anchors, pair.value, path, line) });
    }
    return merges.every((merge) => this.#merge(merge.value, merge.line, into, depth + 1));
  }

  #merge(value: Node | null, line: number, into: Map<string, Entry>, depth: number): boolean {
    if (depth > 16) return this.#tooMuch() !== undefined;
    const target = isAlias(value) ? follow(value, this.#anchors) : value;
    const sources = isSeq(target) ? (target.items as Array<Node | null>) : [target];
    for (const source of sources) {
      if (!this.#report.visit()) return this.#tooMuch() !== undefined;
      const map = isAlias(source) ? follow(source, this.#anchors) : source;
      if (isMap(map)) {
        if (!this.#gather(map, into, depth)) return false;
      } else this.#report.add(line, this.path, "expected a mapping, or a list of mappings, to merge with <<");
    }
    return true;
  }

  #tooMuch(): undefined {
    this.problem("so many values and aliases are not meant to be read");
    return undefined;
  }
}

/** Anchors with their nodes, found in one pass without recursion; aliases see the whole file. */
export function anchorsOf(root: Node | null): Map<string, Node> {
  const anchors = new Map<string, Node>();
  const open: Array<Node | null> = [root];
  while (open.length > 0) {
    const node = open.pop();
    if (!node || isAlias(node)) continue;
    if (node.anchor !== undefined && !anchors.has(node.anchor)) anchors.set(node.anchor, node);
    if (isSeq(node)) for (let i = node.items.length - 1; i >= 0; i--) open.push(node.items[i] as Node | null);
    if (isMap(node))
      for (let i = node.items.length - 1; i >= 0; i--) {
        const pair = node.items[i] as Pair<Node, Node | null>;
        open.push(pair.value, pair.key);
      }
  }
  return anchors;
}

/** An anchor whose value is an alias cannot be written in YAML: one step is enough. */
function follow(alias: Alias, anchors: ReadonlyMap<string, Node>): Node {
  return anchors.get(alias.source) ?? alias;
}

function isEmpty(node: Node): boolean {
  return isScalar(node) && node.type === Scalar.PLAIN && sourceOf(node) === "";
}

function sourceOf(scalar: Scalar): string {
  if (typeof scalar.source === "string") return scalar.source;
  return typeof scalar.value === "string" ? scalar.value : "";
}

/** At most so many characters, on one line, cut between code points. */
export function brief(text: string, max = 60): string {
  const flat = text.slice(0, 400).replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
  const points = Array.from(flat);
  return points.length > max || text.length > 400 ? `${points.slice(0, max - 3).join("")}…` : flat;
}
