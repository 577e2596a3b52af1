// What a Dockerfile or Containerfile asks for before buildah sees any of it: the images that it stands on, its stages, and what ebb does
// not do. Pure.

import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";
import type { BuildSource } from "./door.ts";
import { declaredBy, heredocsOf, tokensOf, type Heredoc } from "./dockerfile-words.ts";

export interface Instruction {
  readonly line: number;
  /** In capitals. */
  readonly name: string;
  /** On one line, whatever it was written on. */
  readonly rest: string;
  /** Of a RUN: the texts that follow it (<<). */
  readonly heredocs: readonly Heredoc[];
  /** Of COPY and ADD: options that name an image, or one of the stages by its number, and which that is. */
  readonly froms: ReadonlyArray<{ readonly option: string; readonly from: string | number }>;
}

export interface Stage {
  readonly line: number;
  /** "scratch", an image as it stands in the file with its variables filled in, or the number of a stage. */
  readonly from: string | number;
  readonly instructions: readonly Instruction[];
}

export interface Dockerfile {
  /** Names of images that must be here before, in their order, once each. */
  readonly bases: readonly string[];
  readonly stages: readonly Stage[];
  /** ARG lines before the first FROM. */
  readonly globals: readonly Instruction[];
  readonly escape: Escape;
  /** Values from outside, in the place of those that its ARG lines give. */
  readonly args: ReadonlyMap<string, string>;
}

export type Escape = "`" | "\\";
export type Refuse = (line: number, why: string) => EbbError;

export function refuseIn(file: string): Refuse {
  return (line, why) => new EbbError("image_refused", `${file}:${line}: ${why}`);
}

/** EbbError with the line where it asks for what ebb does not do. What stands behind the target is not read. */
export function readDockerfile(
  text: string,
  file: string,
  { args = {}, target }: Pick<BuildSource, "args" | "target"> = {},
): Dockerfile {
  const given = new Map(Object.entries(args));
  const isTarget = (name: string | undefined): boolean =>
    target !== undefined && name?.toLowerCase() === target.toLowerCase();
  let isReached = false;
  const refuse = refuseIn(file);
  const names = new Map<string, number>();
  const defaults = new Map<string, string>();
  const bases: string[] = [];
  const globals: Instruction[] = [];
  const stages: Array<Stage & { readonly instructions: Instruction[] }> = [];
  const need = (name: string, line: number): void => {
    if (name === "scratch" || bases.includes(name)) return;
    if (bases.length === imageLimits.bases) throw refuse(line, `it stands on more than ${imageLimits.bases} images`);
    bases.push(name);
  };
  const lines = linesOf(text);
  const escape = escapeOf(lines, refuse);
  for (const instruction of instructionsOf(lines, escape, refuse)) {
    const { line, name, rest } = instruction;
    const words = rest.split(/[\s\u0085]+/).filter((word) => word !== "");
    // Quotes and escapes in them are taken off by buildah, and another option is seen.
    if (words.some((word) => word.startsWith("--") && /["'\\`]/.test(word) && hasOptions(name)))
      throw refuse(line, "an option has quotes or escapes in it; write it without");
    if (name === "ONBUILD")
      throw refuse(line, "ebb does not take ONBUILD; write what it says into the file that needs it");
    if (name === "FROM") {
      if (isReached) break;
      const plain = words.filter((word) => !word.startsWith("--"));
      const said = plain[0];
      if (said === undefined) throw refuse(line, "FROM names no image");
      const image = expanded(said, defaults);
      if (image === null || image === "")
        throw refuse(line, `${said} has no value: give its ARG a default before the first FROM`);
      const from = names.get(image.toLowerCase()) ?? image;
      if (typeof from === "string") need(from, line);
      stages.push({ line, from, instructions: [] });
      if (plain[1]?.toUpperCase() !== "AS" || plain[2] === undefined) continue;
      if (!/^[a-z][a-z0-9_.-]*$/i.test(plain[2])) throw refuse(line, `${plain[2]} is no name of a stage`);
      names.set(plain[2].toLowerCase(), stages.length - 1);
      isReached = isTarget(plain[2]);
      continue;
    }
    const stage = stages.at(-1);
    if (name === "ARG" && stage === undefined) {
      globals.push(instruction);
      for (const word of words) {
        const [key, value] = [word.split("=")[0]!, word.includes("=") ? word.slice(word.indexOf("=") + 1) : null];
        if (given.has(key)) defaults.set(key, given.get(key)!);
        else if (value !== null) defaults.set(key, unquoted(value));
      }
      continue;
    }
    if (stage === undefined && (name === "COPY" || name === "ADD" || name === "RUN"))
      throw refuse(line, `${name} stands before the first FROM`);
    if (name !== "COPY" && name !== "ADD") {
      stage?.instructions.push(instruction);
      continue;
    }
    const sources = words.filter((word) => !word.startsWith("--"));
    if (sources.some((word) => /^[0-9]*<<[^<]/.test(word)))
      throw refuse(
        line,
        "ebb takes no text from within the file (<<) for a COPY; put it into a file of the folder, and COPY that",
      );
    if (name === "ADD" && sources.some((word) => /^["[]*(?:[a-z]+:\/\/|git@)/i.test(word)))
      throw refuse(line, "ADD of an address is not fetched; put the file into the folder, and COPY it");
    const froms: Array<{ option: string; from: string | number }> = [];
    // Which of several counts is the reader's to say.
    for (const option of words.filter((one) => one.startsWith("--from="))) {
      const said = option.slice("--from=".length);
      const from = expanded(said, defaults) ?? said;
      const found = /^[0-9]+$/.test(from) ? Number(from) : names.get(from.toLowerCase());
      if (found === undefined) need(from, line);
      else if (found >= stages.length - 1) {
        // A number is buildah's to refuse; a name must not become an image's.
        if (from !== String(found)) throw refuse(line, `${option} names no stage before this one`);
        continue;
      }
      froms.push({ option, from: found ?? from });
    }
    stage!.instructions.push({ ...instruction, froms });
  }
  const runs = stages.flatMap(({ instructions }) => instructions.filter(({ name }) => name === "RUN"));
  if (runs.length > imageLimits.layers)
    throw refuse(runs[imageLimits.layers]!.line, `it has more than ${imageLimits.layers} RUN`);
  if (stages.length === 0) throw new EbbError("image_refused", `${file}: there is no FROM in it`);
  if (target !== undefined && !isReached)
    throw new EbbError("image_refused", `${file}: there is no stage "${target}" in it`);
  const declarations = [...globals, ...stages.flatMap(({ instructions }) => instructions)].filter(
    (one) => one.name === "ARG",
  );
  const declared = new Set(declarations.flatMap(({ rest }) => declaredBy(rest, escape).map((one) => one.name)));
  for (const name of given.keys())
    if (!declared.has(name))
      throw new EbbError("image_refused", `${file}: there is no ARG ${name} in it, and args give one`);
  return { bases, stages, globals, escape, args: given };
}

/** What gives buildah the values of ARGs: a word for each. EbbError where one is longer than the kernel takes (MAX_ARG_STRLEN). */
export function buildArguments(values: ReadonlyMap<string, string>, file: string): string[] {
  return Array.from(values, ([name, value]) => {
    const word = `--build-arg=${name}=${value}`;
    if (Buffer.byteLength(word) < imageLimits.argumentBytes) return word;
    const most = `${imageLimits.argumentBytes / 1024} KiB`;
    throw new EbbError("image_refused", `${file}: the value of its ARG ${name} is longer than ${most}`);
  });
}

/** Nothing here is to be read in one way by ebb and in another by buildah: what versions of it read differently is refused. */
function* instructionsOf(lines: readonly string[], escape: Escape, refuse: Refuse): Generator<Instruction> {
  const continued = escape === "`" ? /`[ \t]*$/ : /\\[ \t]*$/;
  for (let at = 0; at < lines.length; at++) {
    const line = at + 1;
    let piece = lines[at]!.replace(blanksBefore, "");
    if (piece === "" || piece.startsWith("#")) continue;
    // A name may be broken in the middle: nothing comes in between.
    const pieces: string[] = [];
    while (continued.test(piece)) {
      pieces.push(piece.replace(continued, ""));
      piece = "";
      const said = at + 1;
      let after = at + 1;
      // Comments and empty lines within a continued one do not end it.
      while (after < lines.length && isNothing(lines[after]!)) after += 1;
      at = Math.min(after, lines.length - 1);
      if (after === lines.length) break;
      if (pieces.at(-1)!.endsWith(escape))
        throw refuse(said, `a line ends with more than one ${escape}; write it as one line`);
      piece = lines[after]!;
    }
    pieces.push(piece);
    const [, name, rest] = /^([A-Za-z]+)(?:[\s\u0085]+([^]*))?$/.exec(pieces.join("")) ?? [];
    if (name === undefined) throw refuse(line, `${JSON.stringify(pieces[0]!.slice(0, 40))} is no instruction`);
    const instruction = { line, name: name.toUpperCase(), rest: rest ?? "", heredocs: [], froms: [] };
    if (instruction.rest.includes("\0")) throw refuse(line, "there is a NUL in it");
    const heredocs = instruction.name === "RUN" ? heredocsOf(tokensOf(instruction.rest, escape)) : [];
    for (const heredoc of heredocs) {
      // Every line, until the one that ends it.
      do {
        at += 1;
        if (at >= lines.length) throw refuse(line, `<<${heredoc.end} has no line that ends it`);
        heredoc.lines.push(lines[at]!);
      } while ((heredoc.tabs ? lines[at]!.replace(/^\t+/, "") : lines[at]!) !== heredoc.end);
    }
    yield { ...instruction, heredocs };
  }
}

/** As Go's scanner has them: one carriage return is the line's end. */
function linesOf(text: string): string[] {
  return text
    .replace(/^\ufeff/, "")
    .split("\n")
    .map((line) => line.replace(/\r$/, ""));
}

/** Whatever Go takes for a blank: U+0085 is none of JavaScript's, and U+FEFF none of Go's. */
const blanksBefore = /^[\t\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

function isNothing(line: string): boolean {
  const plain = line.replace(blanksBefore, "");
  return plain === "" || plain.startsWith("#");
}

/** Only the first line can say it in a way that every reader takes. */
function escapeOf(lines: readonly string[], refuse: Refuse): Escape {
  for (const [at, line] of lines.entries()) {
    if (!isNothing(line)) break;
    const said = /^#\s*escape\s*=\s*(.*)$/i.exec(line.replace(blanksBefore, ""))?.[1];
    if (said === undefined) continue;
    if (at === 0 && line === "# escape=`") return "`";
    if (said !== "\\") throw refuse(at + 1, "escape is said in the first line, as # escape=`, or not at all");
  }
  return "\\";
}

function hasOptions(instruction: string): boolean {
  return instruction === "ADD" || instruction === "COPY" || instruction === "FROM";
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
