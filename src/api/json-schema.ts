// The part of JSON Schema that the API's schemas use: whether a value is as one says, text made the values it asks for, and
// what it lets out.

export interface JsonSchema {
  readonly type?: "array" | "boolean" | "integer" | "null" | "number" | "object" | "string";
  readonly const?: string;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
  readonly description?: string;
}

export interface Mismatch {
  /** From the value down to what is wrong in it. */
  readonly path: readonly string[];
  readonly words: string;
}

/** The first thing in `value` that is not as the schema says; null: nothing. */
export function mismatch(schema: JsonSchema, value: unknown, path: readonly string[] = []): Mismatch | null {
  const wrong = (words: string): Mismatch => ({ path, words });
  if (schema.anyOf) {
    if (schema.anyOf.some((each) => mismatch(each, value) === null)) return null;
    return wrong(`expected ${schema.anyOf.map(wordsOf).join(" or ")}`);
  }
  if (schema.const !== undefined) return value === schema.const ? null : wrong(`expected ${wordsOf(schema)}`);
  if (schema.type !== undefined && !isOf[schema.type](value)) return wrong(`expected ${wordsOf(schema)}`);
  if (typeof value === "string") return outside(value.length, schema.minLength, schema.maxLength, " characters", wrong);
  if (typeof value === "number") return outside(value, schema.minimum, schema.maximum, "", wrong);
  if (Array.isArray(value)) {
    const { items, maxItems } = schema;
    return (
      outside(value.length, undefined, maxItems, " items", wrong) ??
      firstOf(value, (item, index) => (items ? mismatch(items, item, [...path, String(index)]) : null))
    );
  }
  return isObject(value) ? mismatchIn(schema, value, path) : null;
}

function mismatchIn(schema: JsonSchema, value: object, path: readonly string[]): Mismatch | null {
  const { properties = {}, required = [], additionalProperties = true } = schema;
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return { path: [...path, missing], words: "is missing" };
  const unknown = Object.keys(value).filter((name) => !Object.hasOwn(properties, name));
  if (additionalProperties === false && unknown.length > 0) return { path, words: `unknown: ${unknown.join(", ")}` };
  return firstOf(Object.entries(value), ([name, each]) => {
    const of = Object.hasOwn(properties, name) ? properties[name] : additionalProperties;
    return typeof of === "object" ? mismatch(of, each, [...path, name]) : null;
  });
}

function firstOf<T>(values: readonly T[], find: (value: T, index: number) => Mismatch | null): Mismatch | null {
  for (const [index, value] of values.entries()) {
    const found = find(value, index);
    if (found) return found;
  }
  return null;
}

function outside(
  size: number,
  least: number | undefined,
  most: number | undefined,
  unit: string,
  wrong: (words: string) => Mismatch,
): Mismatch | null {
  if (least !== undefined && size < least) return wrong(`expected ${least}${unit} or more`);
  if (most !== undefined && size > most) return wrong(`expected ${most}${unit} or fewer`);
  return null;
}

const isOf: Readonly<Record<NonNullable<JsonSchema["type"]>, (value: unknown) => boolean>> = {
  array: (value) => Array.isArray(value),
  boolean: (value) => typeof value === "boolean",
  integer: (value) => Number.isSafeInteger(value),
  null: (value) => value === null,
  number: (value) => Number.isFinite(value),
  object: isObject,
  string: (value) => typeof value === "string",
};

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wordsOf(schema: JsonSchema): string {
  if (schema.const !== undefined) return `"${schema.const}"`;
  if (schema.type === undefined) return "a value";
  return schema.type === "null" ? "null" : `${/^[aio]/.test(schema.type) ? "an" : "a"} ${schema.type}`;
}

/** A query or a path is text: "5" is a number where the schema asks for one. What it cannot be stays as it is, to be refused. */
export function fromText(schema: JsonSchema, value: unknown): unknown {
  if (isObject(value)) {
    const { properties = {} } = schema;
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => {
        const of = Object.hasOwn(properties, name) ? properties[name] : undefined;
        return [name, of ? fromText(of, each) : each];
      }),
    );
  }
  if (typeof value !== "string") return value;
  if (schema.type === "integer" && /^-?\d{1,16}$/.test(value)) return Number(value);
  if (schema.type === "boolean" && /^(?:true|false)$/.test(value)) return value === "true";
  return value;
}

/** What the schema names of a value, and nothing else: a view that carries more than it promises lets none of it out. */
export function named(schema: JsonSchema, value: unknown): unknown {
  if (Array.isArray(value)) return schema.items ? value.map((item: unknown) => named(schema.items!, item)) : value;
  if (schema.anyOf) return named(schema.anyOf.find((each) => mismatch(each, value) === null) ?? {}, value);
  if (!isObject(value) || schema.type !== "object" || schema.additionalProperties === true) return value;
  const { properties = {}, additionalProperties } = schema;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, each]) => {
      const of = Object.hasOwn(properties, name) ? properties[name] : additionalProperties;
      return typeof of === "object" ? [[name, named(of, each)]] : [];
    }),
  );
}
