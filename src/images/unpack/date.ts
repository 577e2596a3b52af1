// The program that reads the times of a layer, and gives it others: a blob of buildah's becomes the tar of that layer, told by what is in it
// but the times, which are written down; and a tar gets the times that were written down of one that is the same but for them. Its plan
// comes on stdin, as it does for the program that unpacks.

import { createHash } from "node:crypto";
import { createReadStream, openSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { createGunzip } from "node:zlib";
import { answer } from "./answer.ts";

export interface DatePlan {
  /** Absolute: of the layer, gzipped or not. */
  readonly blob: string;
  /** Absolute path of the tar, which is made here. */
  readonly layer: string;
  /** Absolute path of the times: made here, or those that the layer gets. */
  readonly times: string;
  readonly given: boolean;
}

export interface Dated {
  /** Of the tar. */
  readonly digest: string;
  /** Of the tar without any time. */
  readonly content: string;
  /** Of the file of times. */
  readonly bytes: number;
}

export type DateResult = Dated | { readonly full: true };

const blockBytes = 512;
const pieceBytes = 256 * 1024;
/** Where a tar's head has them. */
const size = { at: 124, bytes: 12 };
const time = { at: 136, bytes: 12 };
const sum = { at: 148, bytes: 8 };
const sumDigits = 6;
const noTime = "0".repeat(time.bytes - 1);

async function main(): Promise<DateResult> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
  const plan = JSON.parse(readFileSync(0, "utf8")) as DatePlan;
  const fd = openSync(plan.layer, "wx", 0o600);
  const given = plan.given ? readFileSync(plan.times, "latin1").split("\n") : null;
  const times: string[] = [];
  const [hash, contentHash] = [createHash("sha256"), createHash("sha256")];
  const write = (piece: Uint8Array): void => {
    hash.update(piece);
    for (let at = 0; at < piece.length;) at += writeSync(fd, piece, at);
  };
  const head = Buffer.alloc(blockBytes);
  let filled = 0;
  /** Of what stands behind a head. */
  let left = 0;
  for await (const piece of tarOf(plan.blob)) {
    for (let at = 0; at < piece.length;) {
      if (left > 0) {
        const part = piece.subarray(at, at + left);
        contentHash.update(part);
        write(part);
        at += part.length;
        left -= part.length;
        continue;
      }
      const part = piece.subarray(at, at + blockBytes - filled);
      head.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < blockBytes) continue;
      filled = 0;
      // Its end: what follows is no head.
      left = head.every((byte) => byte === 0) ? Infinity : Math.ceil(sizeOf(head) / blockBytes) * blockBytes;
      const own = head.toString("latin1", time.at, time.at + time.bytes - 1);
      if (/^[0-7]+$/.test(own)) {
        const said = given?.[times.length] ?? own;
        times.push(said);
        date(head, noTime);
        contentHash.update(head);
        date(head, said);
      } else contentHash.update(head);
      write(head);
    }
  }
  const lines = times.join("\n");
  if (given === null) writeFileSync(plan.times, lines, { flag: "wx", mode: 0o600 });
  const [digest, content] = [hash, contentHash].map((one) => `sha256:${one.digest("hex")}`);
  return { digest: digest!, content: content!, bytes: lines.length };
}

function tarOf(path: string): AsyncIterable<Uint8Array> {
  const fd = openSync(path, "r");
  const magic = Buffer.alloc(2);
  readSync(fd, magic, 0, magic.length, 0);
  const source = createReadStream("", { fd, start: 0, highWaterMark: pieceBytes });
  if (magic[0] !== 0x1f || magic[1] !== 0x8b) return source;
  const unpacker = createGunzip({ chunkSize: pieceBytes });
  source.once("error", (error) => unpacker.destroy(error));
  return source.pipe(unpacker);
}

/** How its numbers end is left as it is: archivers differ. */
function date(head: Buffer, seconds: string): void {
  head.write(seconds, time.at, "latin1");
  const own = head.subarray(sum.at, sum.at + sum.bytes);
  const end = Buffer.from(own.subarray(sumDigits));
  own.fill(" ", "latin1");
  const total = head.reduce((all, byte) => all + byte, 0);
  own.write(total.toString(8).padStart(sumDigits, "0"), "latin1");
  own.set(end, sumDigits);
}

function sizeOf(head: Buffer): number {
  // Larger than what octal digits hold.
  if ((head[size.at]! & 0x80) !== 0) return Number(head.readBigUInt64BE(size.at + size.bytes - 8));
  return Number.parseInt(head.toString("latin1", size.at, size.at + size.bytes), 8) || 0;
}

await answer<DateResult>(main);
