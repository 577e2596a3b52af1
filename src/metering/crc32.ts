// The checksum of the journal's frames.

const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/**
 * The CRC-32 of zlib (ISO 3309), here because a frame has 80 bytes: the two calls into zlib that each would take cost several
 * times what the loop does.
 */
export function crc32(bytes: Buffer, from: number, to: number, seed: number): number {
  let crc = ~seed;
  for (let at = from; at < to; at++) crc = crcTable[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}
