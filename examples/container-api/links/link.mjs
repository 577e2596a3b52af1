// What is a link, and what is none.
import { randomInt } from "node:crypto";

const letters = "23456789abcdefghjkmnpqrstuvwxyz";

/** The address as browsers write it; undefined where a link to it is refused. */
export function addressOf(text) {
  const url = text.length > 2000 ? null : URL.parse(text.trim());
  return url !== null && ["http:", "https:"].includes(url.protocol) ? url.href : undefined;
}

/** Not to be guessed from another one. */
export function newCode() {
  return Array.from({ length: 8 }, () => letters[randomInt(letters.length)]).join("");
}
