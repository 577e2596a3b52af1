// TypeBox's words for JSON Schema, over plain objects: its types are used, its code is not. That is 680 modules, which took
// 14 MiB for as long as ebb ran and 150 ms of every start (docs/decisions/memory.md).

import type { Type as TypeBox } from "typebox";
import type { JsonSchema } from "./json-schema.ts";

type Words = Pick<
  typeof TypeBox,
  | "Array"
  | "Boolean"
  | "Integer"
  | "Literal"
  | "Null"
  | "Number"
  | "Object"
  | "Optional"
  | "Record"
  | "String"
  | "Union"
  | "Unknown"
>;

/** Properties that an object may be without. */
const optional = new WeakSet<JsonSchema>();

const words = {
  Array: (items: JsonSchema, options?: JsonSchema): JsonSchema => ({ type: "array", items, ...options }),
  Boolean: (options?: JsonSchema): JsonSchema => ({ type: "boolean", ...options }),
  Integer: (options?: JsonSchema): JsonSchema => ({ type: "integer", ...options }),
  Literal: (value: string): JsonSchema => ({ type: "string", const: value }),
  Null: (): JsonSchema => ({ type: "null" }),
  Number: (options?: JsonSchema): JsonSchema => ({ type: "number", ...options }),
  Object: (properties: Readonly<Record<string, JsonSchema>>, options?: JsonSchema): JsonSchema => {
    const required = Object.keys(properties).filter((name) => !optional.has(properties[name]!));
    return { type: "object", ...(required.length > 0 ? { required } : {}), properties, ...options };
  },
  Optional: (schema: JsonSchema): JsonSchema => {
    const own = { ...schema };
    optional.add(own);
    return own;
  },
  Record: (_names: JsonSchema, values: JsonSchema): JsonSchema => ({ type: "object", additionalProperties: values }),
  String: (options?: JsonSchema): JsonSchema => ({ type: "string", ...options }),
  Union: (anyOf: readonly JsonSchema[], options?: JsonSchema): JsonSchema => ({ anyOf, ...options }),
  Unknown: (): JsonSchema => ({}),
} satisfies Record<keyof Words, unknown>;

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the objects are those that TypeBox's types describe
export const Type = words as unknown as Words;
