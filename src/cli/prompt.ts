// Asking a person: a value without echo, or yes and no. Without a terminal the value comes from stdin.

import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { Failure } from "./failure.ts";
import { sanitized } from "./output.ts";
import type { Streams } from "./streams.ts";

type Asked = Pick<Streams, "stdin" | "stderr">;

/** From stdin whole (one line end at its end does not count), or typed without echo. */
export async function secretValue(question: string, streams: Asked): Promise<string> {
  const { stdin } = streams;
  const value = stdin.isTTY ? await typed(question, streams) : (await text(stdin)).replace(/\r?\n$/, "");
  if (value === "") throw new Failure("the value is empty");
  return value;
}

function typed(question: string, { stdin, stderr }: Asked): Promise<string> {
  stderr.write(question);
  return new Promise((done, reject) => {
    let value = "";
    const end = (finish: () => void): void => {
      stdin.setRawMode?.(false);
      stdin.pause();
      stdin.off("data", read);
      stderr.write("\n");
      finish();
    };
    const read = (chunk: string): void => {
      for (const character of chunk) {
        if (character === "\r" || character === "\n" || character === "\u0004") return end(() => done(value));
        if (character === "\u0003") return end(() => reject(new Failure("cancelled")));
        value = character === "\u007f" || character === "\b" ? value.slice(0, -1) : value + character;
      }
      return undefined;
    };
    stdin.setRawMode?.(true);
    stdin.setEncoding("utf8");
    stdin.on("data", read);
    stdin.resume();
  });
}

/** `what`: a sentence that says what will be gone. Failure when the answer is no, and where nobody can be asked. */
export async function confirm(what: string, question: string, { stdin, stderr }: Asked): Promise<void> {
  if (!stdin.isTTY) throw new Failure(`${what} Nobody can be asked here; add --yes`);
  const lines = createInterface({ input: stdin, output: stderr });
  const answer = await new Promise<string>((done) => {
    lines.once("close", () => done(""));
    lines.question(`${sanitized(what)} ${question} [y/N] `, done);
  });
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure("nothing was changed");
}
