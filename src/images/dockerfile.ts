// What a Dockerfile or Containerfile asks for before buildah sees it: the images that it stands on, and what ebb does not do. Pure.

import { EbbError } from "#model/errors.ts";

interface Instruction {
  readonly line: number;
  /** In capitals. */
  readonly name: string;
  readonly rest: string;
}

/** Names of images that must be here before, in their order, once each; as they stand in the file. EbbError with the line otherwise. */
export function basesOf(text: string, file: string): readonly string[] {
  const stages = new Set<string>();
  const defaults = new Map<string, string>();
  const bases: string[] = [];
  const refuse = (line: number, why: string): EbbError => new EbbError("image_refused", `${file}:${line}: ${why}`);
  let stageCount = 0;
  const need = (name: string): void => {
    if (name !== "scratch" && !stages.has(name.toLowerCase()) && !bases.includes(name)) bases.push(name);
  };
  for (const { line, name, rest } of instructionsOf(text)) {
    const words = rest.split(/\s+/).filter((word) => word !== "");
    if (name === "RUN")
      throw refuse(
        line,
        "ebb does not run RUN yet; build the image with docker, podman or buildah, and name it (image: …)",
      );
    if (name === "ONBUILD")
      throw refuse(line, "ebb does not take ONBUILD; write what it says into the file that needs it");
    if (name === "ARG" && stageCount === 0) {
      for (const word of words) {
        const [key, value] = [word.split("=")[0]!, word.includes("=") ? word.slice(word.indexOf("=") + 1) : null];
        if (value !== null) defaults.set(key, unquoted(value));
      }
    } else if (name === "FROM") {
      const plain = words.filter((word) => !word.startsWith("--"));
      const said = plain[0];
      if (said === undefined) throw refuse(line, "FROM names no image");
      const image = expanded(said, defaults);
      if (image === null || image === "")
        throw refuse(line, `${said} has no value: give its ARG a default before the first FROM`);
      need(image);
      stageCount += 1;
      if (plain[1]?.toUpperCase() === "AS" && plain[2] !== undefined) stages.add(plain[2].toLowerCase());
    } else if (name === "COPY" || name === "ADD") {
      if (stageCount === 0) throw refuse(line, `${name} stands before the first FROM`);
      const sources = words.filter((word) => !word.startsWith("--"));
      if (name === "ADD" && sources.some((word) => /^["[]*(?:[a-z]+:\/\/|git@)/i.test(word)))
        throw refuse(line, "ADD of an address is not fetched; put the file into the folder, and COPY it");
      const from = words.find((word) => word.startsWith("--from="))?.slice("--from=".length);
      if (from !== undefined && !/^[0-9]+$/.test(from)) need(expanded(from, defaults) ?? from);
    }
  }
  if (stageCount === 0) throw new EbbError("image_refused", `${file}: there is no FROM in it`);
  return bases;
}

function* instructionsOf(text: string): Generator<Instruction> {
  const lines = text.split(/\r?\n/);
  const escape = /^#\s*escape\s*=\s*`\s*$/im.test(leadingComments(lines)) ? "`" : "\\";
  for (let at = 0; at < lines.length; at++) {
    const line = at + 1;
    let whole = lines[at]!.trim();
    if (whole === "" || whole.startsWith("#")) continue;
    // Comments and empty lines within a continued one do not end it.
    while (whole.endsWith(escape) && at + 1 < lines.length) {
      at += 1;
      const next = lines[at]!.trim();
      if (next.startsWith("#") || next === "") continue;
      whole = `${whole.slice(0, -1)} ${next}`;
    }
    const [, name, rest] = /^([A-Za-z]+)\s*([^]*)$/.exec(whole) ?? [];
    if (name === undefined) continue;
    yield { line, name: name.toUpperCase(), rest: rest! };
    for (const [, end] of whole.matchAll(/<<-?\s*["']?([A-Za-z_][A-Za-z0-9_]*)["']?/g))
      while (at + 1 < lines.length && lines[++at]!.trim() !== end);
  }
}

function leadingComments(lines: readonly string[]): string {
  const end = lines.findIndex((line) => !line.trim().startsWith("#"));
  return lines.slice(0, end < 0 ? lines.length : end).join("\n");
}

/** null: a variable without a value. */
function expanded(text: string, values: ReadonlyMap<string, string>): string | null {
  let known = true;
  const result = unquoted(text).replace(
    /\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))/g,
    (_, braced: string | undefined, fallback: string | undefined, bare: string | undefined) => {
      const value = values.get(braced ?? bare ?? "") ?? fallback;
      if (value === undefined) known = false;
      return value ?? "";
    },
  );
  return known && !result.includes("$") ? result : null;
}

function unquoted(text: string): string {
  return text.replace(/^(["'])(.*)\1$/, "$2");
}
