// What the API's schemas let in, and let out.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Value } from "typebox/value";
import { Type as TypeBox, type TSchema } from "typebox";
import { fromText, mismatch, named, type JsonSchema } from "./json-schema.ts";
import { Type } from "./type.ts";

/** The same schema by our words and by TypeBox's own. */
function both(make: (words: typeof Type) => TSchema): { readonly ours: JsonSchema; readonly theirs: TSchema } {
  return { ours: make(Type), theirs: make(TypeBox) };
}

const schemas: ReadonlyArray<(words: typeof Type) => TSchema> = [
  (t) =>
    t.Object({ a: t.String({ minLength: 1, maxLength: 3 }), b: t.Optional(t.Integer({ minimum: 0, maximum: 9 })) }),
  (t) => t.Object({ a: t.Optional(t.Boolean()) }, { additionalProperties: false }),
  (t) => t.Object({ a: t.Unknown(), b: t.Null() }, { additionalProperties: true }),
  (t) => t.Union([t.Literal("a"), t.Literal("b"), t.Null()]),
  (t) => t.Array(t.Union([t.Number(), t.Object({ a: t.Array(t.Integer()) })]), { maxItems: 2 }),
];

/** What JSON can carry, or nothing at all. */
const json = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom<unknown>(null, true, false, "", "a", "b", "abcd", 0, 1, 9, 10, -1, 0.5),
    fc.array(tie("any"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom("a", "b", "c", "__proto__", "constructor"), tie("any"), { maxKeys: 3 }),
  ),
})).any;
const value = fc.oneof({ weight: 50, arbitrary: json }, { weight: 1, arbitrary: fc.constant(undefined) });

test("our words make the schemas that TypeBox makes", () => {
  for (const { ours, theirs } of schemas.map(both))
    assert.deepEqual(JSON.parse(JSON.stringify(ours)), JSON.parse(JSON.stringify(theirs)));
});

test("a value is let in exactly where TypeBox lets it in", () => {
  for (const { ours, theirs } of schemas.map(both))
    fc.assert(
      fc.property(value, (each) => {
        assert.equal(mismatch(ours, each) === null, Value.Check(theirs, each));
      }),
      { numRuns: 500 },
    );
});

test("the first thing that is wrong is named by its place and by what was expected", () => {
  const { ours } = both((t) =>
    t.Object(
      { list: t.Array(t.Object({ scope: t.Union([t.Literal("read"), t.Null()]), count: t.Integer({ minimum: 1 }) })) },
      { additionalProperties: false },
    ),
  );
  const said = (wrong: unknown): string => {
    const { path, words } = mismatch(ours, wrong)!;
    return `${path.join(".")}: ${words}`;
  };
  assert.equal(said([]), ": expected an object");
  assert.equal(said({}), "list: is missing");
  assert.equal(said({ list: [], more: 1, "even more": 2 }), ": unknown: more, even more");
  assert.equal(
    said({
      list: [
        { scope: null, count: 1 },
        { scope: "root", count: 1 },
      ],
    }),
    'list.1.scope: expected "read" or null',
  );
  assert.equal(said({ list: [{ scope: null, count: 0 }] }), "list.0.count: expected 1 or more");
  assert.equal(said({ list: [{ scope: null, count: "1" }] }), "list.0.count: expected an integer");
});

test("text is a number or a boolean where one is asked for and it can be one, and stays text elsewhere", () => {
  const { ours } = both((t) => t.Object({ n: t.Integer(), b: t.Boolean(), s: t.String(), list: t.Array(t.String()) }));
  const cases: Array<[object, object]> = [
    [
      { n: "5", b: "true", s: "5", other: "5" },
      { n: 5, b: true, s: "5", other: "5" },
    ],
    [
      { n: "-1", b: "false" },
      { n: -1, b: false },
    ],
    [
      { n: "5.5", b: "yes" },
      { n: "5.5", b: "yes" },
    ],
    [
      { n: "", b: "" },
      { n: "", b: "" },
    ],
    [
      { n: "0x10", b: ["true"], list: ["5"] },
      { n: "0x10", b: ["true"], list: ["5"] },
    ],
  ];
  for (const [text, expected] of cases) assert.deepEqual(fromText(ours, text), expected);
});

test("an answer carries what its schema names, at every depth, and nothing else", () => {
  const { ours } = both((t) =>
    t.Object({
      kept: t.Union([t.Object({ a: t.String() }), t.Null()]),
      rows: t.Array(t.Object({ a: t.Optional(t.Integer()) })),
      map: t.Record(t.String(), t.Object({ a: t.Unknown() })),
    }),
  );
  const view = {
    kept: { a: "x", secret: 1 },
    rows: [{ a: 1, secret: 1 }, { secret: 1 }],
    map: { any: { a: { secret: "named by nobody, asked for by an unknown" }, secret: 1 } },
    secret: 1,
  };
  assert.deepEqual(named(ours, view), {
    kept: { a: "x" },
    rows: [{ a: 1 }, {}],
    map: { any: { a: { secret: "named by nobody, asked for by an unknown" } } },
  });
  assert.deepEqual(named(ours, { kept: null, rows: [], map: {} }), { kept: null, rows: [], map: {} });
});
