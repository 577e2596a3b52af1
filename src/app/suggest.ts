// The known word that a mistyped one was probably meant to be.

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
  let best: string | null = null;
  let bestDistance = Infinity;
  for (const candidate of known) {
    const d = distance(plain, candidate.toLowerCase());
    if (d < bestDistance) [best, bestDistance] = [candidate, d];
  }
  if (bestDistance <= Math.max(1, Math.floor(plain.length / 3))) return best;
  return known.find((candidate) => candidate.length >= 3 && plain.startsWith(candidate.toLowerCase())) ?? null;
}

/** Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours. */
export function distance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2]! + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length]!;
}
