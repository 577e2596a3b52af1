// For tests: archives as they should be, and as nobody should make them.

import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";

export interface RawEntry {
  readonly name: string | Uint8Array;
  /** typeflag; "0": a file. */
  readonly flag?: string;
  readonly body?: string | Uint8Array;
  readonly link?: string;
  readonly mode?: number;
  /** What the header says, where that is not the body's. */
  readonly size?: number;
  readonly prefix?: string;
}

/** One header and its content, exactly as asked for. */
export function entry(raw: RawEntry): Buffer {
  const body = Buffer.from(raw.body ?? "");
  const head = Buffer.alloc(512);
  Buffer.from(raw.name).copy(head, 0, 0, 100);
  head.write(`${(raw.mode ?? 0o644).toString(8).padStart(7, "0")}\0`, 100);
  head.write("0000000\0".repeat(2), 108);
  head.write(`${(raw.size ?? body.length).toString(8).padStart(11, "0")}\0`, 124);
  head.write(`${"0".repeat(11)}\0`, 136);
  head.write(raw.flag ?? "0", 156);
  head.write(raw.link ?? "", 157, 100);
  head.write("ustar\x0000", 257);
  head.write(raw.prefix ?? "", 345, 155);
  return Buffer.concat([sealed(head), body, Buffer.alloc((512 - (body.length % 512)) % 512)]);
}

/** Writes the checksum. */
export function sealed(head: Buffer): Buffer {
  head.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of head) sum += byte;
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return head;
}

export const end = Buffer.alloc(1024);

export function gzipped(...blocks: readonly Uint8Array[]): Readable {
  return Readable.from([gzipSync(Buffer.concat(blocks), { level: 1 })], { objectMode: false });
}

export function archive(...entries: readonly RawEntry[]): Readable {
  return gzipped(...entries.map(entry), end);
}

/** Plain files. */
export function packed(files: Readonly<Record<string, string>>): Readable {
  return archive(...Object.entries(files).map(([name, body]) => ({ name, body })));
}

export function pax(...records: ReadonlyArray<readonly [string, string]>): RawEntry {
  const body = records.map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = Buffer.byteLength(rest) + 1;
    while (String(length).length + Buffer.byteLength(rest) !== length) length += 1;
    return `${length}${rest}`;
  });
  return { name: "PaxHeader", flag: "x", body: body.join("") };
}
