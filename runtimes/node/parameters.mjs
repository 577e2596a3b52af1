// The names of a function's parameters, read from its source: what tells (event, context) from (req, res).

/** Longer than any list of parameters that means something here. */
const sourceChars = 4_096;

/**
 * A destructured parameter counts, and is called "". Where the source does not tell (native, bound), as many "" as `length` says.
 * @param {Function} call @returns {string[]}
 */
export function parametersOf(call) {
  const source = Function.prototype.toString.call(call).slice(0, sourceChars);
  const unknown = () => Array.from({ length: call.length }, () => "");
  if (/\{\s*\[native code\]\s*\}\s*$/.test(source)) return unknown();
  const arrow = /^(?:async\b\s*)?([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*=>/u.exec(source);
  if (arrow !== null) return [/** @type {string} */ (arrow[1])];
  const open = openingParenthesis(source);
  const list = open < 0 ? null : splitTop(source, open + 1);
  if (list === null) return unknown();
  return list.map((text) => /^(?:\.\.\.)?\s*([\p{ID_Start}$_][\p{ID_Continue}$]*)/u.exec(text)?.[1] ?? "");
}

/** Past `async function* name`, or a method's computed name. @param {string} source @returns {number} -1: none */
function openingParenthesis(source) {
  if (!/^(?:async\s*|get\s+|set\s+|static\s+|function\b|\*|\s)*\[/.test(source)) return source.indexOf("(");
  let depth = 0;
  for (let at = source.indexOf("["); at < source.length; at++) {
    if (source[at] === "[") depth += 1;
    if (source[at] === "]" && --depth === 0) return source.indexOf("(", at);
  }
  return -1;
}

/** The parts between commas up to the parenthesis that closes, comments removed. @param {string} source @param {number} from @returns {string[] | null} */
function splitTop(source, from) {
  /** @type {string[]} */
  const parts = [];
  let part = "";
  let depth = 0;
  for (let at = from; at < source.length; at++) {
    const char = /** @type {string} */ (source[at]);
    const next = source[at + 1];
    if (char === "/" && (next === "*" || next === "/")) {
      const end = next === "*" ? source.indexOf("*/", at + 2) + 1 : source.indexOf("\n", at);
      if (end <= 0) return null;
      at = end;
    } else if (char === '"' || char === "'" || char === "`") {
      const end = closingQuote(source, at);
      if (end < 0) return null;
      part += char + char;
      at = end;
    } else if (char === ")" && depth === 0) {
      if (part.trim() !== "") parts.push(part.trim());
      return parts;
    } else if (char === "," && depth === 0) {
      parts.push(part.trim());
      part = "";
    } else {
      if (char === "(" || char === "[" || char === "{") depth += 1;
      if (char === ")" || char === "]" || char === "}") depth -= 1;
      part += char;
    }
  }
  return null;
}

/** @param {string} source @param {number} open @returns {number} */
function closingQuote(source, open) {
  for (let at = open + 1; at < source.length; at++) {
    if (source[at] === "\\") at += 1;
    else if (source[at] === source[open]) return at;
  }
  return -1;
}
