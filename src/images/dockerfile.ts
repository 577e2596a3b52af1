// What a Dockerfile or Containerfile asks for before buildah sees it: the images that it stands on, and what ebb does not do. Pure.

import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";

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
  const need = (name: string, line: number): void => {
    if (name === "scratch" || stages.has(name.toLowerCase()) || bases.includes(name)) return;
    if (bases.length === imageLimits.bases) throw refuse(line, `it stands on more than ${imageLimits.bases} images`);
    bases.push(name);
  };
  for (const { line, name, rest } of instructionsOf(text, refuse)) {
    const words = rest.split(/[\s\u0085]+/).filter((word) => word !== "");
    // Quotes and escapes in them are taken off by buildah, and another option is seen.
    if (words.some((word) => word.startsWith("--") && /["'\\`]/.test(word) && hasOptions(name)))
      throw refuse(line, "an option has quotes or escapes in it; write it without");
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
      need(image, line);
      stageCount += 1;
      if (plain[1]?.toUpperCase() === "AS" && plain[2] !== undefined) stages.add(plain[2].toLowerCase());
    } else if (name === "COPY" || name === "ADD") {
      if (stageCount === 0) throw refuse(line, `${name} stands before the first FROM`);
      const sources = words.filter((word) => !word.startsWith("--"));
      if (sources.some((word) => /^[0-9]*<<[^<]/.test(word)))
        throw refuse(
          line,
          "ebb takes no text from within the file (<<); put it into a file of the folder, and COPY that",
        );
      if (name === "ADD" && sources.some((word) => /^["[]*(?:[a-z]+:\/\/|git@)/i.test(word)))
        throw refuse(line, "ADD of an address is not fetched; put the file into the folder, and COPY it");
      // Which of several counts is the reader's to say.
      for (const word of words.filter((one) => one.startsWith("--from="))) {
        const from = word.slice("--from=".length);
        if (!/^[0-9]+$/.test(from)) need(expanded(from, defaults) ?? from, line);
      }
    }
  }
  if (stageCount === 0) throw new EbbError("image_refused", `${file}: there is no FROM in it`);
  return bases;
}

/** Nothing here is to be read in one way by ebb and in another by buildah: what versions of it read differently is refused. */
function* instructionsOf(text: string, refuse: (line: number, why: string) => EbbError): Generator<Instruction> {
  // As Go's scanner has them: one carriage return is the line's end.
  const lines = text
    .replace(/^\ufeff/, "")
    .split("\n")
    .map((line) => line.replace(/\r$/, ""));
  const escape = escapeOf(lines, refuse);
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
    yield { line, name: name.toUpperCase(), rest: rest ?? "" };
  }
}

/** Whatever Go takes for a blank: U+0085 is none of JavaScript's, and U+FEFF none of Go's. */
const blanksBefore = /^[\t\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

function isNothing(line: string): boolean {
  const plain = line.replace(blanksBefore, "");
  return plain === "" || plain.startsWith("#");
}

/** Only the first line can say it in a way that every reader takes. */
function escapeOf(lines: readonly string[], refuse: (line: number, why: string) => EbbError): "`" | "\\" {
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
