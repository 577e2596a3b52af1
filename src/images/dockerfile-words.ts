// The words of a Dockerfile's line: where blanks part them, and where quotes and escapes keep them together. Pure.

/** A text within the file, that a RUN reads. */
export interface Heredoc {
  readonly end: string;
  /** <<-: tabs before its lines are none of it. */
  readonly tabs: boolean;
  /** As they stand in the file, with the line that ends it. */
  readonly lines: string[];
}

/** As they stand there: quotes and escapes are left on. */
export function tokensOf(text: string, escape: string): string[] {
  const tokens: string[] = [];
  let token = "";
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (character === escape && quote !== "'" && at + 1 < text.length) {
      token += character + text[++at]!;
    } else if (quote === "" && /[ \t]/.test(character)) {
      if (token !== "") tokens.push(token);
      token = "";
    } else {
      if (quote === character) quote = "";
      else if (quote === "" && (character === '"' || character === "'")) quote = character;
      token += character;
    }
  }
  return token === "" ? tokens : [...tokens, token];
}

/** Those that words ask for, still without their lines. */
export function heredocsOf(tokens: readonly string[]): Heredoc[] {
  return tokens.flatMap((token) => {
    const [, tabs, , end] = /^[0-9]*<<(-?)(["']?)([A-Za-z_][A-Za-z0-9_.-]*)\2$/.exec(token) ?? [];
    return end === undefined ? [] : [{ end, tabs: tabs === "-", lines: [] }];
  });
}

/** The names that an ARG declares, and whether it gives each a value. */
export function declaredBy(rest: string, escape: string): Array<{ readonly name: string; readonly given: boolean }> {
  return tokensOf(rest, escape).flatMap((token) => {
    const [, name, equals] = /^([A-Za-z_][A-Za-z0-9_]*)(=|$)/.exec(token) ?? [];
    return name === undefined ? [] : [{ name, given: equals === "=" }];
  });
}
