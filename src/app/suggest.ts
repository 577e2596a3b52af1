// The known word that a mistyped one was probably meant to be.

import { nearest } from "#lib/nearest.ts";

/** What other platforms call it. */
const synonyms: Readonly<Record<string, string>> = {
  memory: "memoryMb",
  memorysize: "memoryMb",
  mem: "memoryMb",
  ram: "memoryMb",
  timeout: "timeoutSeconds",
  cpus: "cpu",
  vcpu: "cpu",
  environment: "env",
  envs: "env",
  variables: "env",
  secret: "secrets",
  idle: "idleSeconds",
  idletimeout: "idleSeconds",
  scaledown: "idleSeconds",
  mininstances: "min",
  minscale: "min",
  maxinstances: "max",
  maxscale: "max",
  src: "source",
  path: "source",
  dir: "source",
  code: "source",
  entrypoint: "handler",
  entry: "handler",
  main: "handler",
  cmd: "command",
  lang: "runtime",
  language: "runtime",
  concurrent: "concurrency",
  maxconcurrency: "concurrency",
  function: "functions",
  services: "functions",
  name: "project",
  namespace: "project",
  python: "python3",
  py: "python3",
  node: "node26",
  nodejs: "node26",
  provided: "custom",
  binary: "custom",
};

/** Null where nothing known is near. Bounded: only short words are compared. */
export function suggest(word: string, known: readonly string[]): string | null {
  if (word.length === 0 || word.length > 40) return null;
  const plain = word
    .toLowerCase()
    .replaceAll(/[-_ ]|\.x$/g, "")
    .replace(/^nodejs(?=\d)/, "node");
  const same = known.find((candidate) => candidate.toLowerCase() === plain);
  if (same !== undefined) return same;
  const synonym = synonyms[plain];
  if (synonym !== undefined && known.includes(synonym)) return synonym;
  const near = nearest(plain, known);
  if (near !== null) return near;
  return known.find((candidate) => candidate.length >= 3 && plain.startsWith(candidate.toLowerCase())) ?? null;
}
