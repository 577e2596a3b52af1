// Requests with random damage, and random places to cut them: for tests that any bytes may reach the gateway.

import fc from "fast-check";

const valid = [
  "GET /a?b=c HTTP/1.1\r\nhost: hello.localhost\r\nx: y\r\n\r\n",
  "POST /p HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: 5\r\n\r\nhello",
  "POST /c HTTP/1.1\r\nHost: hello.localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "GET http://hello.localhost/ HTTP/1.1\r\nhost: hello.localhost\r\nconnection: close\r\n\r\n",
  "OPTIONS /run/default/hello HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nz",
];
const splices = [
  "\r\n",
  "\n",
  "\r",
  "\0",
  " ",
  ":",
  "host: x\r\n",
  "content-length: 3\r\n",
  "Transfer-Encoding: chunked\r\n",
  "GET / HTTP/1.1\r\n\r\n",
  "\x80",
  "0\r\n\r\n",
  "%",
  "/../",
  "\t",
];

const damage = fc.record({ at: fc.nat(400), cut: fc.nat(6), put: fc.constantFrom("", ...splices) });

/** One to three requests in a row, damaged in up to four places. */
export const damagedRequests = fc
  .record({
    base: fc.array(fc.constantFrom(...valid), { minLength: 1, maxLength: 3 }),
    damages: fc.array(damage, { maxLength: 4 }),
  })
  .map(({ base, damages }) =>
    damages.reduce(
      (text, { at, cut, put }) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut),
      base.join(""),
    ),
  );

/** Cuts a text into up to six pieces. */
export const piecesOf = fc.array(fc.nat(400), { maxLength: 5 }).map((cuts) => (text: string): string[] => {
  const places = [0, ...cuts.map((cut) => cut % (text.length + 1)).toSorted((a, b) => a - b), text.length];
  return places.slice(0, -1).map((from, i) => text.slice(from, places[i + 1]));
});
