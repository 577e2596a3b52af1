import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, newCode } from "./link.mjs";

test("an address of the web is one that a link may lead to", () => {
  assert.equal(addressOf("https://example.com\n"), "https://example.com/");
  assert.equal(addressOf("http://example.com/a?b=ü"), "http://example.com/a?b=%C3%BC");
});

test("whatever else is refused", () => {
  for (const text of ["", "example.com", "javascript:alert(1)", "file:///etc/passwd", `http://${"a".repeat(2000)}`])
    assert.equal(addressOf(text), undefined);
});

test("codes are eight letters, each time others", () => {
  const codes = Array.from({ length: 100 }, newCode);
  for (const code of codes) assert.match(code, /^[2-9a-z]{8}$/);
  assert.equal(new Set(codes).size, 100);
});
