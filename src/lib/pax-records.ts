// The records of a pax extended header (POSIX.1-2017, pax, "pax Extended Header"), of an archive that may be hostile.

/** More of a key nobody asks for. */
const keyChars = 64;
const lengthDigits = 7;

/**
 * "LENGTH KEY=VALUE\n" each, LENGTH in bytes and counting itself. Values are bytes: those that nobody asks for may be any. Throws what
 * `damaged` makes.
 */
export function* paxRecords(body: Uint8Array, damaged: () => Error): Generator<[key: string, value: Uint8Array]> {
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 || space - at > lengthDigits ? "" : String.fromCharCode(...body.subarray(at, space));
    const length = /^[1-9][0-9]*$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < digits.length + 3 || end > body.length || body[end - 1] !== 0x0a) throw damaged();
    const record = body.subarray(space + 1, end - 1);
    const equals = record.indexOf(0x3d);
    if (equals < 1) throw damaged();
    yield [String.fromCharCode(...record.subarray(0, Math.min(equals, keyChars))), record.subarray(equals + 1)];
    at = end;
  }
}
