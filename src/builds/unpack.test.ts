// Archives that mean harm, and archives that merely are odd: what is refused, in which words, and that nothing is written outside.

import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import { archive, end, entry, gzipped, pax, type RawEntry, sealed } from "./archives.testing.ts";
import { unpack, type UnpackLimits } from "./unpack.ts";

const base = mkdtempSync(join(tmpdir(), "ebb-unpack-"));
after(() => rmSync(base, { recursive: true, force: true }));
let folders = 0;

/** A folder in a folder with a canary: whatever leads out would change it. */
function place(): { folder: string; around: string } {
  const around = join(base, `p${folders++}`);
  const folder = join(around, "inside");
  mkdirSync(folder, { recursive: true });
  return { folder, around };
}

const small: UnpackLimits = { ...deployLimits, archiveBytes: 1_000_000, unpackedBytes: 100_000, entries: 50 };

async function refused(source: Readable, limits: UnpackLimits = small): Promise<string> {
  const { folder, around } = place();
  const error: unknown = await unpack(source, folder, limits).then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof EbbError, `not refused: ${String(error)}`);
  assert.ok(["invalid_archive", "payload_too_large"].includes(error.code), error.code);
  assert.deepEqual(readdirSync(around), ["inside"]);
  return error.message;
}

const hostile: ReadonlyArray<readonly [title: string, said: RegExp, ...entries: RawEntry[]]> = [
  ["a name with ..", /^"\.\." stands in the name "\.\.\/x"$/, { name: "../x" }],
  ["a name with .. in its middle", /^"\.\." stands in the name/, { name: "a/../../x" }],
  ["a folder with ..", /^"\.\." stands/, { name: "a/..", flag: "5" }],
  ["an absolute name", /^"\/etc\/x" is an absolute name$/, { name: "/etc/x" }],
  ["a prefix with ..", /^"\.\." stands in the name "\.\.\/x"$/, { name: "x", prefix: ".." }],
  ["a pax name with ..", /^"\.\." stands/, pax(["path", "../../x"]), { name: "fine" }],
  ["a pax name with NUL", /^a NUL character stands in the name/, pax(["path", "a\0b"]), { name: "fine" }],
  ["a GNU long name with ..", /^"\.\." stands/, { name: "././@LongLink", flag: "L", body: "../x\0" }, { name: "fine" }],
  [
    "a GNU long name with NUL",
    /^a NUL character/,
    { name: "././@LongLink", flag: "L", body: "a\0/../x\0" },
    { name: "fine" },
  ],
  ["a name with NUL", /^a NUL character stands in the name "a"$/, { name: "a\0b" }],
  ["a name that is not UTF-8", /is not UTF-8$/, { name: Buffer.from([0x61, 0xff, 0xfe]) }],
  ["a name of 64 KiB", /is longer than 1024 bytes$/, pax(["path", "a/".repeat(30_000)]), { name: "fine" }],
  [
    "an extended header over 64 KiB",
    /^an entry has more than 64 KiB of extended header$/,
    pax(["comment", "x".repeat(70_000)]),
    { name: "fine" },
  ],
  [
    "a flood of extended headers",
    /more than 64 KiB of extended header/,
    ...Array.from({ length: 130 }, () => pax(["comment", "x"])),
    { name: "fine" },
  ],
  [
    "a part of 256 bytes",
    /a part of the name .* is longer than 255 bytes$/,
    pax(["path", "n".repeat(256)]),
    { name: "fine" },
  ],
  ["too many folders deep", /is deeper than 64 folders$/, pax(["path", "d/".repeat(70) + "x"]), { name: "fine" }],
  ["no name", /has no name$/, { name: "./", flag: "2", link: "x" }],
  ["a link out", /^"l" is a link that leads out: "\.\.\/x"$/, { name: "l", flag: "2", link: "../x" }],
  ["an absolute link", /^"l" is a link to the absolute path "\/etc"$/, { name: "l", flag: "2", link: "/etc" }],
  ["an empty link", /^"l" is a link to nothing$/, { name: "l", flag: "2", link: "" }],
  [
    "a link out through a link",
    /^"b" is a link that leads out/,
    { name: "d/e/f", flag: "5" },
    { name: "a", flag: "2", link: "d/e/f" },
    { name: "b", flag: "2", link: "a/../../../../x" },
  ],
  [
    "a link through what is not there",
    /^"b" is a link through what is not there/,
    { name: "b", flag: "2", link: "no/../x" },
  ],
  [
    "links in a circle",
    /^"a" is a link in a circle/,
    { name: "a", flag: "2", link: "b" },
    { name: "b", flag: "2", link: "a" },
  ],
  ["links that grow", /in a circle|leads out/, { name: "a", flag: "2", link: "a/a/a/a/a" }],
  [
    "a file through a link",
    /^"l\/x" goes through "l", which is a symlink, not a folder$/,
    { name: "l", flag: "2", link: "." },
    { name: "l/x" },
  ],
  [
    "a file through a link that comes later",
    /^"l" stands in the archive twice$/,
    { name: "l/x" },
    { name: "l", flag: "2", link: "/etc" },
  ],
  [
    "a folder over a link",
    /^"l" is a folder and a symlink in one archive$/,
    { name: "l", flag: "2", link: "." },
    { name: "l", flag: "5" },
  ],
  ["a file through a file", /^"f\/x" goes through "f", which is a file, not a folder$/, { name: "f" }, { name: "f/x" }],
  ["a folder over a file", /^"f\/?" is a folder and a file/, { name: "f" }, { name: "f/", flag: "5" }],
  ["a file twice", /^"\.\/a" stands in the archive twice$/, { name: "a" }, { name: "./a" }],
  ["a hard link out", /^"\.\." stands in the name/, { name: "h", flag: "1", link: "../../etc/passwd" }],
  ["an absolute hard link", /is an absolute name$/, { name: "h", flag: "1", link: "/etc/passwd" }],
  [
    "a hard link to a link",
    /^"h" is a hard link to "l", which is no file/,
    { name: "l", flag: "2", link: "x" },
    { name: "x" },
    { name: "h", flag: "1", link: "l" },
  ],
  ["a hard link to a folder", /which is no file/, { name: "d", flag: "5" }, { name: "h", flag: "1", link: "d" }],
  [
    "a hard link to a later file",
    /which is no file of this archive before it$/,
    { name: "h", flag: "1", link: "x" },
    { name: "x" },
  ],
  [
    "hard links that add up",
    /^more than 100000 bytes are in the archive$/,
    { name: "x", body: "x".repeat(40_000) },
    { name: "h", flag: "1", link: "x" },
    { name: "i", flag: "1", link: "x" },
  ],
  ["a character device", /^"d" is a device/, { name: "d", flag: "3" }],
  ["a block device", /^"d" is a device/, { name: "d", flag: "4" }],
  ["a named pipe", /^"p" is a named pipe/, { name: "p", flag: "6" }],
  ["a sparse file", /^"s" is a sparse file/, { name: "s", flag: "S" }],
  ["an unknown kind", /^"s" is of an unknown kind/, { name: "s", flag: "Q" }],
  ["a folder with content", /is no file and has content$/, { name: "d", flag: "5", body: "x" }],
  [
    "too many bytes",
    /^more than 100000 bytes are in the archive$/,
    { name: "a", body: "x".repeat(60_000) },
    { name: "b", body: "x".repeat(60_000) },
  ],
  ["a size that is a lie", /^more than 100000 bytes/, { name: "a", body: "x", size: 0o7777777777 }],
  ["a pax size that is not a number", /^a size in the archive is not a number$/, pax(["size", "-5"]), { name: "a" }],
  ["a pax size beyond the end", /ends in the middle of an entry$/, pax(["size", "90000"]), { name: "a", body: "x" }],
  [
    "too many entries",
    /^more than 50 entries are in the archive$/,
    ...Array.from({ length: 51 }, (_, i) => ({ name: `f${i}` })),
  ],
  [
    "too many implied folders",
    /^more than 50 entries/,
    ...Array.from({ length: 20 }, (_, i) => ({ name: `${i}/a/b/c` })),
  ],
  [
    "a pax record with a wrong length",
    /extended header of the archive is damaged$/,
    { name: "p", flag: "x", body: "99 path=x\n" },
    { name: "a" },
  ],
  ["a pax record without a length", /is damaged$/, { name: "p", flag: "x", body: "path=x\n" }, { name: "a" }],
  ["a pax record with a negative length", /is damaged$/, { name: "p", flag: "x", body: "-9 path=x\n" }, { name: "a" }],
  ["a pax sparse map", /sparse file/, pax(["GNU.sparse.major", "1"]), { name: "a" }],
];

for (const [title, said, ...entries] of hostile)
  test(`refused: ${title}`, async () => assert.match(await refused(archive(...entries)), said));

const raw = (bytes: Uint8Array): Readable => Readable.from([bytes], { objectMode: false });

test("refused: what is not an archive, is cut short, or goes on after its end", async () => {
  const good = entry({ name: "a", body: "x".repeat(2_000) });
  assert.match(await refused(raw(Buffer.from("not gzip"))), /not gzipped, or it is damaged/);
  assert.match(await refused(Readable.from([])), /cut short/);
  assert.match(await refused(gzipped(Buffer.from("x".repeat(600)))), /not a tar archive, or it is damaged/);
  assert.match(await refused(gzipped(good)), /without its end mark: it was cut short/);
  assert.match(await refused(gzipped(good.subarray(0, 1_024))), /in the middle of an entry/);
  assert.match(await refused(gzipped(good.subarray(0, 300))), /in the middle of an entry/);
  assert.match(await refused(gzipped(good, end, Buffer.from("more"))), /something follows the end/);
  assert.match(await refused(raw(gzipSync(Buffer.concat([good, end])).subarray(0, 60))), /cut short/);
  assert.match(
    await refused(raw(Buffer.concat([gzipSync(Buffer.concat([good, end])), Buffer.from("junk")]))),
    /something follows the end/,
  );
  const flipped = Buffer.from(good);
  flipped[5]! ^= 1;
  assert.match(await refused(gzipped(flipped, end)), /damaged/);
  const huge = entry({ name: "a" });
  huge.fill(0xff, 124, 136);
  assert.match(await refused(gzipped(sealed(huge), end)), /too large to be true/);
});

test("refused: an archive over its bytes, while it arrives", async () => {
  let pulled = 0;
  const endless = Readable.from(
    (function* () {
      yield gzipSync(Buffer.alloc(0)).subarray(0, 10); // a header; then stored blocks without end
      for (;;) {
        pulled += 1;
        yield Buffer.concat([Buffer.from([0, 0, 1, 255, 254]), entry({ name: `f${pulled}` }).subarray(0, 256)]);
      }
    })(),
    { objectMode: false },
  );
  assert.match(await refused(endless, { ...small, archiveBytes: 5_000 }), /./);
  const random = Readable.from(
    (function* () {
      yield gzipSync(Buffer.from(Array.from({ length: 50_000 }, (_, i) => (i * 7919) % 251)), { level: 0 });
    })(),
    { objectMode: false },
  );
  assert.match(await refused(random, { ...small, archiveBytes: 10_000 }), /the archive has more than 10000 bytes/);
  assert.ok(pulled < 1_000, `${pulled} pieces were taken`);
});

test("refused: a bomb, long before it is all unpacked", async () => {
  const zeros = entry({ name: "z", body: Buffer.alloc(64 * 1024 * 1024) });
  assert.match(await refused(gzipped(zeros, end), deployLimits), /the archive expands more than 200 times/);
  // A bomb of headers only: no entry ever comes of it.
  const headers = gzipped(
    ...Array.from({ length: 400 }, () => entry({ name: "g", flag: "g", body: "x".repeat(100) })),
    end,
  );
  assert.match(await refused(headers), /extended header/);
});

test("refused: a sender who goes away", async () => {
  const source = new Readable({ read() {} });
  const running = refused(source);
  source.push(gzipSync(Buffer.alloc(10)).subarray(0, 12));
  source.destroy(Object.assign(new Error("aborted"), { code: "ECONNRESET" }));
  assert.match(await running, /cut short/);
});

test("names, modes, links, empty folders and long names arrive as they were sent; setuid bits and owners do not", async () => {
  const { folder } = place();
  const long = `${"n".repeat(90)}/${"m".repeat(90)}/${"ö".repeat(60)}`;
  const tree = await unpack(
    archive(
      { name: "./", flag: "5" },
      { name: "./bin/", flag: "5", mode: 0o6777 },
      { name: "./bin/run", body: "#!", mode: 0o6755 },
      { name: "plain", body: "p", mode: 0o666 },
      pax(["path", long], ["mtime", "1.5"], ["SCHILY.xattr.user.x", "ÿ"]),
      { name: "short", body: "long" },
      { name: "././@LongLink", flag: "L", body: `g/${"x".repeat(150)}\0` },
      { name: "g", body: "gnu" },
      { name: "l", flag: "2", link: "bin/run" },
      { name: "bin/up", flag: "2", link: "../plain" },
      { name: "dangling", flag: "2", link: "later/file" },
      { name: "h", flag: "1", link: "plain" },
      { name: "empty", flag: "5" },
      { name: "posix/name", prefix: "pre/fix", body: "!" },
      { name: "old-folder/" },
    ),
    folder,
  );
  assert.equal(readFileSync(join(folder, long), "utf8"), "long");
  assert.equal(readFileSync(join(folder, "g", "x".repeat(150)), "utf8"), "gnu");
  assert.equal(readFileSync(join(folder, "l"), "utf8"), "#!");
  assert.equal(readFileSync(join(folder, "h"), "utf8"), "p");
  assert.equal(readlinkSync(join(folder, "dangling")), "later/file");
  assert.equal(readFileSync(join(folder, "pre/fix/posix/name"), "utf8"), "!");
  assert.ok(lstatSync(join(folder, "empty")).isDirectory() && lstatSync(join(folder, "old-folder")).isDirectory());
  assert.equal(statSync(join(folder, "bin/run")).mode & 0o7111, 0o111);
  assert.equal(statSync(join(folder, "bin")).mode & 0o7000, 0);
  assert.equal(statSync(join(folder, "plain")).mode & 0o7111, 0);
  assert.deepEqual(
    [tree.get("plain")?.kind, tree.get("l"), tree.get("pre")],
    ["file", { kind: "symlink", target: "bin/run" }, { kind: "folder" }],
  );
});

test("an archive that arrives a byte at a time is the same archive", async () => {
  const { folder } = place();
  const bytes = gzipSync(
    Buffer.concat([entry({ name: "a/b", body: "x".repeat(700) }), entry({ name: "l", flag: "2", link: "a/b" }), end]),
  );
  const tree = await unpack(
    Readable.from(
      (function* () {
        for (const byte of bytes) yield Buffer.of(byte);
      })(),
      { objectMode: false },
    ),
    folder,
  );
  assert.deepEqual([...tree.keys()].toSorted(), ["a", "a/b", "l"]);
  assert.equal(readFileSync(join(folder, "l"), "utf8").length, 700);
  assert.ok(!existsSync(join(folder, "..", "l")));
});
